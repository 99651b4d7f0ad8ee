"""The most memory that a block has taken in this process."""

import contextlib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def _now(name: str) -> int:
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(name)]
    return 1024 * int(line.split()[1])


@contextlib.contextmanager
def peak_memory() -> Iterator[types.SimpleNamespace]:
    """Gives an object whose `grown` afterwards is the peak above the start, in bytes; skips where the system does not tell."""
    try:
        _RESET.write_text("5")  # Linux's proc(5): the peak starts anew
    except OSError:
        pytest.skip("no peak of memory that starts anew here")
    found, before = types.SimpleNamespace(grown=0), _now("VmRSS")
    yield found
    found.grown = _now("VmHWM") - before
