"""The one exception a user is meant to see."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence that names the flag or file, the value and what is allowed.

    Programs print it and exit with code 2; from Python it is raised as `tfpt.UserError`.
    """


class GateError(UserError):
    """`--export.require` was not met: programs exit with code 3."""


class OutsideError(UserError):
    """Nothing of the user's is wrong, but a disk is full or a store does not answer: programs exit with code 1, and the same
    command goes on later."""


class Preempted(KeyboardInterrupt):
    """SIGTERM came: the machine is wanted for something else, and the same command goes on later."""
