"""Sides of a comparison, each run a process of its own, so that none finds what another left."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MARK = "RESULT "


def answer(values: Mapping[str, Any]) -> None:
    """Prints what a run came to, for `child` in the process that started it."""
    print(MARK + json.dumps(values), flush=True)


def child(
    program: str, arguments: Sequence[str], *, python: str = sys.executable, remembered: Path | None = None
) -> dict[str, Any]:
    """Runs a program with an empty cache but for weights.

    Args:
        program: file.
        arguments: of its command line; `--work=FOLDER`, a folder of its own, is added.
        python: that runs it.
        remembered: keeps which engine is fastest from one run to the next.

    Returns:
        What it answered, and `program`, the seconds that the process took.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        weights = Path(os.environ.get("TFPT_HOME") or "~/.cache/tfpt").expanduser() / "weights"
        if weights.is_dir():
            (home / "weights").symlink_to(weights)
        engines = home / "engines.json"
        if remembered is not None and remembered.exists():
            shutil.copy(remembered, engines)
        started = time.monotonic()
        done = subprocess.run(
            [python, program, *arguments, f"--work={folder}"],
            env={**os.environ, "TFPT_HOME": str(home), "TFPT_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.monotonic() - started
        if remembered is not None and engines.exists():
            shutil.copy(engines, remembered)
    return {**json.loads(done.stdout.rpartition(MARK)[2]), "program": seconds}
