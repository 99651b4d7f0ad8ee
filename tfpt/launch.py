"""Starts several workers of one program on this machine, and all of them again when one dies.

For trying out how a run is spread over machines: `tfpt launch --launch.workers=2 -- train --flagfile=mine.flags`. A run goes on
from its last checkpoint each time.
"""

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfpt import app, flags
from tfpt.config import check, setting
from tfpt.console import Console
from tfpt.errors import Preempted, UserError

PROGRAM = "Start several workers of a training on this machine, again when one dies."
AGAIN = (app.FAILED, app.PREEMPTED)
"""Exit codes after which it is worth starting again; a mistake or a gate stays what it is."""
SECONDS_TO_STOP = 5.0
"""One that waits for a dead worker has nothing to save, and may not hear SIGTERM."""
SECONDS_TO_SAVE = 60.0
"""After Ctrl-C and SIGTERM, when all can still talk to each other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `launch`."""

    workers: int = setting(2, "How many workers.")
    restarts: int = setting(3, "How often all are started again when one dies.")

    def __post_init__(self) -> None:
        check(self.workers >= 1, f"workers: {self.workers} is not at least 1")
        check(self.restarts >= 0, f"restarts: {self.restarts} is negative")


GROUPS = {"launch": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _launch,
        program="launch",
        about=__doc__ or "",
        example="tfpt launch --launch.workers=2 -- train --flagfile=mine.flags",
        groups=GROUPS,
        need_experiment=False,
        positional="-- PROGRAM [--flag=value ...]",
        argv=argv,
    )


def _launch(parsed: flags.Parsed, console: Console) -> int:
    options: Options = parsed.options["launch"]
    if not parsed.paths or parsed.paths[0] != "train":
        raise UserError(
            "tfpt launch starts `tfpt train`: write tfpt launch --launch.workers=2 -- train --flagfile=FILE."
        )
    for argument in parsed.paths[1:]:
        if re.fullmatch(r"--output\.if_exists=(new|fail)", argument):
            raise UserError(f"{argument}: workers that are started again go on with their run; leave it out.")
    for number in (signal.SIGHUP, signal.SIGQUIT):  # a closed terminal and Ctrl-\ do not reach the workers' own groups
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.getsignal(signal.SIGTERM))
    for attempt in range(options.restarts + 1):
        if attempt:
            console.warn(f"A worker died; all are started again ({attempt} of {options.restarts}).")
        code = run_together(parsed.paths, count=options.workers, console=console)
        if code not in AGAIN and code >= 0:
            return code
    console.warn(f"It died {options.restarts + 1} times: see what the workers said above.")
    return code if code > 0 else app.FAILED


def run_together(arguments: Sequence[str], *, count: int, console: Console) -> int:
    """Runs the workers until the first one, which writes, has ended or any has failed; stops the others.

    Each worker has a process group of its own: what stops this program, Ctrl-C in a terminal too, reaches it alone, and it
    passes that on once.

    Args:
        arguments: program and flags.
        count: how many workers.
        console: hears how workers were stopped.

    Returns:
        The exit code of the first worker, or of the one that failed; below 0 the signal that ended it.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, or SIGTERM came; the workers got it, too, and time to save.
    """
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(count))
    program, *rest = arguments
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for k in range(count):
            where = [f"--runtime.workers={addresses}", f"--runtime.worker={k}"]
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tfpt", program, *rest, *where],
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *_python_path()]),
                    },
                    process_group=0,
                )
            )
        return _first_end(workers)
    except KeyboardInterrupt as asked:
        return _passed_on(asked, workers, console)
    finally:
        stop(workers)


def _passed_on(asked: KeyboardInterrupt, workers: Sequence["subprocess.Popen[bytes]"], console: Console) -> int:
    """Stops the workers by what this program was asked to stop with; asked again, it kills them.

    Returns:
        The exit code of the first worker, where it had come to its end or to a mistake.

    Raises:
        KeyboardInterrupt: what was asked; whoever stops this program wants none of them started again.
    """
    code: int | None = None
    try:
        for worker in workers:
            worker.send_signal(signal.SIGTERM if isinstance(asked, Preempted) else signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = workers[0].wait(timeout=SECONDS_TO_SAVE) if workers else None
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
        console.warn("The workers were killed; the same command goes on from their last checkpoint.")
        raise
    if code in (app.STOPPED, app.PREEMPTED):
        console.say("The workers have stopped and saved where they were.")
    elif code is None or code < 0 or code in AGAIN:
        console.warn("The workers did not save where they were; the same command goes on from their last checkpoint.")
    else:
        return code
    raise asked


def _python_path() -> list[str]:
    return [path for path in [os.environ.get("PYTHONPATH", "")] if path]


def _first_end(workers: Sequence["subprocess.Popen[bytes]"]) -> int:
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [code for code in codes if code]
        if codes[0] is not None and not failed:
            return codes[0]
        if failed:
            time.sleep(1.0)  # one that stops the others ends first; the first worker's word counts most
            code = workers[0].poll()
            return failed[0] if code is None else code
        time.sleep(0.1)


def stop(workers: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ends what still runs: kindly, and after a while not."""
    running = [worker for worker in workers if worker.poll() is None]
    for worker in running:
        worker.terminate()
    deadline = time.monotonic() + SECONDS_TO_STOP
    try:
        for worker in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=max(0.0, deadline - time.monotonic()))
    finally:  # who presses Ctrl-C meanwhile does not want to wait
        for worker in running:
            worker.kill()
            worker.wait()


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    main()
