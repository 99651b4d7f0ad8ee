"""Which engine runs a graph: measured on a few batches, checked against TensorFlow, remembered for the machine."""

import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpt import registry
from tfpt.atomic import atomic_text
from tfpt.console import Console
from tfpt.engines import Engine, Run
from tfpt.errors import UserError

TOLERANCE = 1e-3
"""An engine's float32 outputs may differ from TensorFlow's by this share of the largest of them."""
WORTH_COMPARING = 5.0
"""Seconds of TensorFlow's work below which others are not even compiled."""
_BATCHES = 3
_BASE = "tensorflow"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine that was chosen.

    Attributes:
        name: of the engine.
        run: the graph on it.
        why: in words, with the numbers; empty where there was nothing to choose.
    """

    name: str
    run: Run
    why: str = ""


def freeze(function: Any, *specs: Any) -> Any:
    """Makes a function's variables constants.

    Args:
        function: of tensors, or nested ones; concrete, or traced first.
        *specs: of its arguments, where it must be traced.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(function, autograph=False).get_concrete_function(*specs) if specs else function
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False)


def label(name: str, precision: str) -> str:
    """Returns what features were computed by, for their key: engine, version and precision."""
    return f"{name} {registry.find('engine', name).version()} {precision}"


def candidates(wanted: str, *, precision: str) -> list[str]:
    """Returns the engines that may run: the one that is asked for, or those that are installed.

    Raises:
        UserError: it is not installed.
    """
    if wanted != "auto":
        engine: type[Engine] = registry.find("engine", wanted)
        if not engine.version():
            missing = f"run: pip install 'tfpt[{engine.extra}]'" if engine.extra else "install it"
            raise UserError(f"--runtime.engine={wanted} cannot run here; {missing}, or write auto.")
        return [wanted]
    names = [name for name in registry.names("engine") if name != _BASE and registry.find("engine", name).version()]
    return names if precision != "float32" and names else [_BASE, *names]


def choose(
    graph: Any,
    inputs: Sequence[Any],
    *,
    wanted: str,
    precision: str,
    threads: int,
    batches: int,
    key: str,
    memory: Path,
    console: Console,
) -> Choice:
    """Chooses among the engines that may run.

    Args:
        graph: a concrete function whose variables are constants.
        inputs: of one real batch, flattened.
        wanted: an engine's name, or `auto`.
        precision: `float32` or `bfloat16`; in the second an engine is held to no tolerance.
        threads: CPU threads; 0: one a core.
        batches: how many there are to run.
        key: of the graph, for what is remembered.
        memory: the file that remembers.
        console: hears of engines that failed.

    Raises:
        UserError: the engine that was asked for is not installed, or cannot run the graph.
    """
    threads = threads or os.cpu_count() or 1

    def compiled(name: str) -> Run:
        return registry.find("engine", name)().compile(graph, precision=precision, threads=threads)

    names = candidates(wanted, precision=precision)
    if len(names) == 1:
        try:
            return Choice(name=names[0], run=compiled(names[0]), why="" if wanted == "auto" else "as asked")
        except UserError:
            raise
        except Exception as error:  # an engine may fail in any way
            raise UserError(
                f"--runtime.engine={wanted}: {names[0]} cannot run this backbone ({_first_line(error)}); write tensorflow."
            ) from error
    known = _load(memory)
    machine = " ".join([key, _machine(), str(threads), *(label(name, precision) for name in names)])
    if known.get(machine, {}).get("engine") in names:
        name, rates = known[machine]["engine"], known[machine]["rates"]
        try:
            return Choice(name=name, run=compiled(name), why=f"{_told(rates)}, as measured before")
        except Exception as error:  # what ran before may not now
            console.warn(f"The engine {name} failed ({_first_line(error)}).")
    size = len(inputs[0])
    runs: dict[str, Run] = {}
    rates = {}
    reference: list[np.ndarray] = []
    for name in names:
        try:
            run = compiled(name)
            found = run(inputs)
            if reference and precision == "float32" and (off := _difference(found, reference)) > TOLERANCE:
                console.say(f"The engine {name} differs from TensorFlow by {off:.1g} of the largest output: not used.")
                continue
            rates[name] = size / _seconds(run, inputs)
        except Exception as error:  # an engine may fail in any way; another runs
            console.say(f"The engine {name} cannot run this backbone ({_first_line(error)}).")
            continue
        runs[name] = run
        if name == _BASE:
            reference = found
            if batches * size / rates[name] < WORTH_COMPARING:
                return Choice(name=name, run=run)
    if not runs:
        raise UserError(f"--runtime.engine={wanted}: no installed engine can run this backbone; see the lines above.")
    best = max(rates, key=rates.__getitem__)
    known[machine] = {"engine": best, "rates": rates}
    memory.parent.mkdir(parents=True, exist_ok=True)
    with atomic_text(memory) as file:
        json.dump(known, file, indent=1)
    return Choice(name=best, run=runs[best], why=_told(rates))


def _seconds(run: Run, inputs: Sequence[Any]) -> float:
    """Returns the shortest time of a batch: what else the machine does only makes it longer."""
    times = []
    for _ in range(_BATCHES):
        started = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - started)
    return min(times)


def _difference(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Returns the largest difference as a share of the largest value, of the worst output."""
    worst = 0.0
    for ours, theirs in zip(found, reference, strict=True):
        if ours.shape != theirs.shape:
            return float("inf")
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        if not np.isfinite(difference):
            return float("inf")
        worst = max(worst, difference / max(float(np.abs(theirs).max(initial=0.0)), 1e-12))
    return worst


def _told(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:,.0f} examples/s" for name, rate in sorted(rates.items(), key=lambda r: -r[1]))


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{platform.machine()} {model} {os.cpu_count()}"


def _load(memory: Path) -> dict[str, Any]:
    """Returns what is remembered; nothing where the file is missing or damaged."""
    try:
        found = json.loads(memory.read_text("utf-8"))
        return {k: v for k, v in found.items() if isinstance(v["engine"], str) and isinstance(v["rates"], dict)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200].rstrip(".")
