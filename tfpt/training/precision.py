"""Which arithmetic the trunks train in."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfpt.atomic import atomic_text
from tfpt.errors import UserError
from tfpt.training.feature_key import code_of
from tfpt.weights.home import home

WORTH_IT = 1.2
"""Bfloat16 is chosen on a CPU where it is so many times as fast: below, the noise of a measurement could decide."""
_FILE = "bfloat16.json"


def choose_precision(wanted: str, *, speedup: Callable[[], float] | None) -> tuple[str, str]:
    """Returns the precision and, in words, why.

    Args:
        wanted: `auto`, `float32`, `bfloat16` or `float16`.
        speedup: measures how many times as fast bfloat16 is on this CPU; None where too little is trained to matter.
    """
    if wanted != "auto":
        return wanted, "as asked"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        if major >= 8:
            return "bfloat16", "the GPU has it"
        return "float32", f"the GPU has compute capability {major}, bfloat16 needs 8"
    if not _cpu_has_bfloat16():
        return "float32", "the CPU has no arithmetic for bfloat16"
    if speedup is None:
        return "float32", "there is little to train"
    ratio = speedup()
    return "bfloat16" if ratio >= WORTH_IT else "float32", f"bfloat16 is {ratio:.1f} times as fast here"


def measured_speedup(make: Callable[[str], Callable[[], Any]], *, key: str) -> float:
    """Returns how many times as fast bfloat16 is as float32; what was measured on this machine before is remembered.

    Args:
        make: returns for a precision a function that does the same piece of work each time.
        key: names the piece of work.
    """
    file = home() / _FILE
    name = hashlib.sha256(f"{key} {_cpu()} {tf.__version__} {code_of([])}".encode()).hexdigest()[:16]
    known = _read(file)
    if name not in known:
        work = {precision: make(precision) for precision in ("float32", "bfloat16")}
        seconds: dict[str, list[float]] = {precision: [] for precision in work}
        for _ in range(4):
            for precision, do in work.items():
                started = time.perf_counter()
                do()
                seconds[precision].append(time.perf_counter() - started)
        # The first of each traces; the fastest is what the machine can do when nobody else is at it.
        known[name] = min(seconds["float32"][1:]) / min(seconds["bfloat16"][1:])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_text(file) as target:
                json.dump(known, target)
        except (OSError, UserError):  # it is measured again the next time
            pass
    return known[name]


def _read(file: Path) -> dict[str, float]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): float(ratio) for name, ratio in known.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _cpu_lines() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def _cpu() -> str:
    return _cpu_lines().get("model name", "")


def _cpu_has_bfloat16() -> bool:
    flags = _cpu_lines().get("flags", "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags
