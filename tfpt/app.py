"""Where every program starts: arguments, help, errors and exit codes."""

import contextlib
import errno
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TextIO

from tfpt import flags
from tfpt.atomic import FULL
from tfpt.console import Console
from tfpt.errors import GateError, OutsideError, Preempted, UserError
from tfpt.help_page import help_page
from tfpt.startup import quiet_import, start_tensorflow

__all__ = ["quiet_import", "run", "start_tensorflow"]

DONE, FAILED, MISTAKE, GATE, PREEMPTED, STOPPED = 0, 1, 2, 3, 75, 130
"""Exit codes; 75 is EX_TEMPFAIL, what a batch system takes for "start me again"."""

_USERS_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR)


def run(
    main: Callable[[flags.Parsed, Console], int | None],
    *,
    program: str,
    about: str,
    example: str,
    groups: Mapping[str, type] | None = None,
    need_experiment: bool = True,
    positional: str = "",
    dry_run: bool = False,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Runs a program and ends the process with its exit code.

    Args:
        main: what it does, with the parsed flags and a console; it may return an exit code.
        program: its name.
        about: what it does, in a paragraph, for `--help`.
        example: a real command line.
        groups: its own flag groups.
        need_experiment: whether task, data and backbone must be given.
        dry_run: whether it takes `--dry_run`.
        positional: how its other arguments are shown (`PATH...`); empty when it takes flags only.
        argv: the arguments; None: those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    groups = groups or {}
    _open_closed_streams()
    signal.signal(signal.SIGTERM, _preempted)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream.isatty():
            setattr(sys, name, _outlived(stream))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a C locale cannot show every name
    console = Console()
    try:
        if any(argument in flags.HELP for argument in arguments):
            sections = flags.settings_for_help(arguments, groups)
            print(
                help_page(sections, program=program, about=about, example=example, groups=groups, positional=positional)
            )
            code = DONE
        else:
            parsed = flags.parse(
                arguments,
                program=program,
                groups=groups,
                need_experiment=need_experiment,
                positional=bool(positional),
            )
            if parsed.dry_run and not dry_run:
                raise UserError(f"--dry_run is for `tfpt train`; `tfpt {program}` would do its work.")
            if parsed.offline:
                os.environ["TFPT_OFFLINE"] = "1"
            if parsed.json:
                console = Console(stream=sys.stderr)  # standard output is for the results
            if need_experiment:
                for note in parsed.notes:
                    console.say(note)
            code = main(parsed, console) or DONE
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        code = _report(error, console, debug="--debug" in arguments)
    sys.exit(code)


def _preempted(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # machines send it twice, and what it began should come to its end
    raise Preempted


def _open_closed_streams() -> None:
    """Opens /dev/null for those of standard input, output and error that the caller closed.

    Otherwise the next file that is opened would take their place, and what is printed would land in it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


class _Terminal(io.FileIO):
    """A terminal that may be closed while there is still something to save: what is said to it then is lost, and no more."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(data)


def _outlived(stream: TextIO) -> TextIO:
    """Returns a stream to the same terminal that never fails for being closed; it has no buffer whose rest could."""
    terminal = _Terminal(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(terminal, stream.encoding, "backslashreplace", write_through=True)


def _report(error: BaseException, console: Console, *, debug: bool) -> int:
    """Tells the user what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if debug:
        traceback.print_exception(error)
    if isinstance(error, Preempted):
        return _say(f"{str(error) or 'stopped by SIGTERM'}; the same command goes on from here", PREEMPTED)
    if isinstance(error, KeyboardInterrupt):
        return _say("interrupted", STOPPED)
    if isinstance(error, UserError):
        codes = {GateError: GATE, OutsideError: FAILED}
        return _say(str(error), next((code for kind, code in codes.items() if isinstance(error, kind)), MISTAKE))
    if isinstance(error, OSError) and error.errno in _USERS_FOLDER + FULL:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror}.", FAILED if error.errno in FULL else MISTAKE)
    if any(
        os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    ):  # as TensorFlow words it
        return _say("the disk is full, or your share of it; make room, and the same command goes on.", FAILED)
    kept = "the traceback is above" if debug else _keep_traceback(error, console)
    kind = f"{type(error).__name__}: {error}".splitlines()[0]
    return _say(f"this is a bug in tfpt, or in what it stands on ({kind}); {kept}.", FAILED)


def _say(sentence: str, code: int) -> int:
    print(f"tfpt: {sentence}", file=sys.stderr, flush=True)
    return code


def _keep_traceback(error: BaseException, console: Console) -> str:
    """Writes the traceback to the run's log, or to a temporary file where there is no log or no room; says where it is."""
    text = "".join(traceback.format_exception(error))
    if console.log is not None:
        with contextlib.suppress(OSError), console.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)
            return f"the traceback is in {console.log}"
    try:
        handle, name = tempfile.mkstemp(prefix="tfpt-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as problem:
        return f"the traceback could not be written ({problem.strerror}), --debug shows it"
    return f"the traceback is in {name}"
