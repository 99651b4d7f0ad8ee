"""Starts several workers of one program on this machine, and all of them again when one dies.

For trying out how a run is spread over machines: `tfpt launch --launch.workers=2 -- train --flagfile=mine.flags`. A run goes on
from its last checkpoint each time.
"""

import contextlib
import dataclasses
import os
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
"""After SIGTERM, when all can still talk to each other."""


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
    for attempt in range(options.restarts + 1):
        if attempt:
            console.warn(f"A worker died; all are started again ({attempt} of {options.restarts}).")
        code = run_together(parsed.paths, count=options.workers)
        if code not in AGAIN and code >= 0:
            return code
    console.warn(f"It died {options.restarts + 1} times: see what the workers said above.")
    return code if code > 0 else app.FAILED


def run_together(arguments: Sequence[str], *, count: int) -> int:
    """Runs the workers until the first one, which writes, has ended or any has failed; stops the others.

    Args:
        arguments: program and flags.
        count: how many workers.

    Returns:
        The exit code of the first worker, or of the one that failed; below 0 the signal that ended it.

    Raises:
        Preempted: SIGTERM came; the workers have got it, too, and time to save.
    """
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(count))
    program, *rest = arguments
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tfpt", program, *rest, f"--runtime.workers={addresses}", f"--runtime.worker={k}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *_python_path()])},
        )
        for k in range(count)
    ]
    try:
        return _first_end(workers)
    except Preempted:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = workers[0].wait(timeout=SECONDS_TO_SAVE)
            if code not in AGAIN and code >= 0:  # it came to its end, or to a mistake
                return code
        raise  # whoever stops this program wants none of them started again
    finally:
        stop(workers)


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
            return workers[0].poll() or failed[0]
        time.sleep(0.1)


def stop(workers: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ends what still runs: kindly, and after a while not."""
    running = [worker for worker in workers if worker.poll() is None]
    for worker in running:
        worker.terminate()
    deadline = time.monotonic() + SECONDS_TO_STOP
    for worker in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=max(0.0, deadline - time.monotonic()))
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
