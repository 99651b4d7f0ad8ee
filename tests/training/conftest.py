"""A process that dies at a moment of one's choice."""

import pytest


class _Killed(BaseException):
    """What nothing after it can be done."""


@pytest.fixture
def killed(monkeypatch):
    """`killed(call, at=k, before=[(owner, name), ...])` ends `call` before the k-th call of these; tells whether it came so far."""

    def run(call, *, at, before):
        left = [at]

        def mortal(plain):
            def done(*arguments, **named):
                left[0] -= 1
                if left[0] < 0:
                    raise _Killed
                return plain(*arguments, **named)

            return done

        with monkeypatch.context() as patch:
            for owner, name in before:
                patch.setattr(owner, name, mortal(getattr(owner, name)))
            try:
                call()
            except _Killed:
                return True
        return False

    return run
