"""Which engine runs a graph: measured on a few batches, checked against TensorFlow, remembered for the machine."""

import dataclasses
import json
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpt import registry
from tfpt.atomic import atomic_text
from tfpt.console import Console
from tfpt.cores import cores
from tfpt.engines import Engine, Run
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.engines._frozen import Frozen

TOLERANCE = 1e-3
"""An engine's float32 outputs may differ from TensorFlow's by this share of the largest of them."""
NOISE = 0.1
"""What bfloat16 may change features by, as a share of what they differ by from one example to the next, both as root mean square.
Noise of this size takes 0.5 % from a feature's correlation with the label; EfficientNet-Lite0 has 0.047."""
WORTH_BFLOAT16 = 1.2
"""Bfloat16 is chosen where it is so many times as fast."""
WORTH_COMPARING = 5.0
"""Seconds of TensorFlow's work below which others are not even compiled."""
MOST_AT_A_TIME = 8
"""Batches on their way at once: one a thread and one that waits, up to this."""
_BATCHES = 3
_BASE = "tensorflow"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine that was chosen.

    Attributes:
        name: of the engine.
        precision: of its arithmetic.
        run: the graph on it.
        at_a_time: how many calls of it may run side by side.
        why: in words, with the numbers; empty where there was nothing to choose.
        exact: the graph on the same engine in float32, where that was compiled to compare with.
    """

    name: str
    precision: str
    run: Run
    at_a_time: int = 1
    why: str = ""
    exact: Run | None = None


def freeze(function: Any, *specs: Any) -> "Frozen":
    """Makes a function's variables constants.

    Args:
        function: of tensors, or nested ones; concrete, or traced first.
        *specs: of its arguments, where it must be traced.
    """
    import tensorflow as tf

    from tfpt.engines._frozen import Frozen

    return Frozen(tf.function(function, autograph=False).get_concrete_function(*specs) if specs else function)


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
        graph: `Frozen`.
        inputs: of one real batch, flattened.
        wanted: an engine's name, or `auto`.
        precision: `float32`; `bfloat16`, asked for, which is held to no tolerance; `auto`: bfloat16 where it is faster and hardly
            changes anything, see `NOISE`.
        threads: CPU threads; 0: one a core.
        batches: how many there are to run.
        key: of the graph, for what is remembered.
        memory: the file that remembers.
        console: hears of engines that failed.

    Raises:
        UserError: the engine that was asked for is not installed, or cannot run the graph.
    """
    possible = ways(wanted, precision=precision)
    if len(possible) == 1:
        ((name, precise),) = possible
        try:
            run = compiled(graph, name, precise, threads=threads)
        except UserError:
            raise
        except Exception as error:  # an engine may fail in any way
            raise _cannot_run(wanted, name, error) from error
        return chosen(name, precise, run, threads=threads, why="" if wanted == "auto" else "as asked")
    known, machine = _load(memory), _place(possible, key, threads)
    before = known.get(machine, {})
    if (before.get("engine"), before.get("precision")) in possible:
        name, precise = before["engine"], before["precision"]
        try:
            wanted_too = ["float32"] if precision == "auto" and precise != "float32" else []
            with ThreadPoolExecutor(2) as pool:
                run, *others = pool.map(lambda one: compiled(graph, name, one, threads=threads), [precise, *wanted_too])
            exact = others[0] if others else None
            # What was remembered must hold for these weights and data, which are not in the key.
            if exact is None or not unlike(run(inputs), exact(inputs), precise):
                why = f"{_told(before['rates'])}, as measured before"
                return chosen(name, precise, run, threads=threads, why=why, exact=exact)
        except Exception as error:  # what ran before may not now
            console.warn(f"The engine {name} failed ({first_line(error)}).")
    size = len(inputs[0])
    runs: dict[tuple[str, str], Run] = {}
    rates: dict[tuple[str, str], float] = {}
    reference: list[np.ndarray] = []
    for way in possible:
        name, precise = way
        if precise != "float32" and (name, "float32") in possible and (name, "float32") not in runs:
            continue  # its float32 was refused, and validation needs that
        try:
            run = compiled(graph, name, precise, threads=threads)
            found = run(inputs)
            if reference and (why := unlike(found, reference, precise)):
                console.say(f"The engine {in_words(*way)} {why}: not used.")
                continue
            rates[way] = size / _seconds(run, inputs, at_a_time=at_a_time(threads))
        except Exception as error:  # an engine may fail in any way; another runs
            if wanted != "auto" and precise == "float32":
                raise _cannot_run(wanted, name, error) from error
            console.say(f"The engine {in_words(*way)} cannot run this backbone ({first_line(error)}).")
            continue
        runs[way] = run
        reference = reference or found
        if way == possible[0] and batches * size / rates[way] < WORTH_COMPARING:
            return chosen(name, precise, run, threads=threads)
    if not runs:
        raise UserError(f"--runtime.engine={wanted}: no installed engine can run this backbone; see the lines above.")
    best = max(rates, key=lambda way: rates[way] / (1.0 if way[1] == "float32" else WORTH_BFLOAT16))
    told = {in_words(*way): rate for way, rate in rates.items()}
    known[machine] = {"engine": best[0], "precision": best[1], "rates": told}
    memory.parent.mkdir(parents=True, exist_ok=True)
    with atomic_text(memory) as file:
        json.dump(known, file, indent=1)
    exact = runs.get((best[0], "float32"))
    return chosen(*best, runs[best], threads=threads, why=_told(told), exact=exact)


def is_known(*, wanted: str, precision: str, threads: int, key: str, memory: Path) -> bool:
    """Tells whether there is nothing to measure: one engine may run, or one is remembered; arguments as `choose`."""
    possible = ways(wanted, precision=precision)
    return len(possible) == 1 or _place(possible, key, threads) in _load(memory)


def served_precision(wanted: str) -> str:
    """Returns the precision of a server's engine: bfloat16 only where it is asked for."""
    return "float32" if wanted == "auto" else wanted


def ways(wanted: str, *, precision: str) -> list[tuple[str, str]]:
    """Returns engines and precisions that may run, float32 first; arguments as `choose`."""
    if precision != "auto":
        return [(name, precision) for name in candidates(wanted, precision=precision)]
    names = candidates(wanted, precision="float32")
    rounded = [name for name in names if "bfloat16" in registry.find("engine", name).precisions()]
    return [*((name, "float32") for name in names), *((name, "bfloat16") for name in rounded)]


def compiled(graph: Any, name: str, precision: str, *, threads: int) -> Run:
    """Returns a graph on an engine for batches side by side; `threads` as in `choose`."""
    run: Run = registry.find("engine", name)().compile(
        graph, precision=precision, threads=threads or cores(), at_a_time=at_a_time(threads)
    )
    return run


def at_a_time(threads: int) -> int:
    """Returns how many batches are on their way at once; `threads` as in `choose`."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return 1
    return min((threads or cores()) + 1, MOST_AT_A_TIME)


def chosen(name: str, precision: str, run: Run, *, threads: int, why: str = "", exact: Run | None = None) -> Choice:
    """Returns a choice of what `compiled` returned."""
    return Choice(name=name, precision=precision, run=run, at_a_time=at_a_time(threads), why=why, exact=exact)


def _cannot_run(wanted: str, name: str, error: Exception) -> UserError:
    return UserError(
        f"--runtime.engine={wanted}: {name} cannot run this backbone ({first_line(error)}); write tensorflow."
    )


def unlike(found: Sequence[np.ndarray], reference: Sequence[np.ndarray], precision: str) -> str:
    """Returns, in words, in what outputs differ too much from those that they are held to; empty where they do not."""
    if precision == "float32":
        off = _difference(found, reference)
        return f"differs from TensorFlow by {off:.1g} of the largest output" if off > TOLERANCE else ""
    if len(found[0]) < 2:
        return "cannot be judged by a single example"
    noise = _noise(found, reference)
    return f"changes outputs by {noise:.1%} of what they differ by" if noise > NOISE else ""


def _noise(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Returns the difference as a share of the spread over examples, of the worst output; see `NOISE`."""
    worst = 0.0
    for ours, theirs in zip(found, reference, strict=True):
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        noise = float(np.sqrt(np.square(ours - theirs).mean() / max(theirs.var(axis=0).mean(), 1e-24)))
        if not np.isfinite(noise):
            return float("inf")
        worst = max(worst, noise)
    return worst


def in_words(name: str, precision: str) -> str:
    return name if precision == "float32" else f"{name} in {precision}"


def _seconds(run: Run, inputs: Sequence[Any], *, at_a_time: int) -> float:
    """Returns the shortest time of a batch, side by side with others: what else the machine does only makes it longer."""
    times = []
    with ThreadPoolExecutor(at_a_time) as pool:
        for _ in range(_BATCHES):
            started = time.perf_counter()
            list(pool.map(run, [inputs] * at_a_time))
            times.append((time.perf_counter() - started) / at_a_time)
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


def _place(possible: Sequence[tuple[str, str]], key: str, threads: int) -> str:
    """Returns under what the choice is remembered."""
    return " ".join([key, machine_name(), str(threads or cores()), *(label(*way) for way in possible)])


def _told(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:,.0f} examples/s" for name, rate in sorted(rates.items(), key=lambda r: -r[1]))


def machine_name() -> str:
    """Returns the CPU, by architecture, model and cores that may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{platform.machine()} {model} {cores()}"


def _load(memory: Path) -> dict[str, Any]:
    """Returns what is remembered; nothing where the file is missing or damaged."""
    try:
        found = json.loads(memory.read_text("utf-8"))
        return {k: v for k, v in found.items() if isinstance(v["engine"], str) and isinstance(v["rates"], dict)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200].rstrip(".")
