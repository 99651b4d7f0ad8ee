"""Other engines in the model's place: held to TensorFlow's answers, and chosen by measurement."""

import time
from collections.abc import Sequence

import numpy as np

from tfpt import registry
from tfpt.config import Runtime
from tfpt.console import Console
from tfpt.cores import cores
from tfpt.engines import Run
from tfpt.engines._choice import candidates, freeze, served_precision
from tfpt.errors import UserError
from tfpt.server.model import Model, Work
from tfpt.server.signature import Values
from tfpt.serving.servable import SINGLE

TENSORFLOW = "tensorflow"
_SIZES = (1, 8)
"""Batch sizes by which engines are compared."""
_REPETITIONS = 3


class EngineRunner:
    """A bundle's signature `outputs`, its weights made constants, on an engine."""

    def __init__(self, model: Model, name: str, *, precision: str, threads: int) -> None:
        """Compiles it.

        Args:
            model: of the bundle.
            name: of the engine.
            precision: `float32` or `bfloat16`.
            threads: CPU threads; 0: one a core.
        """
        signature = model.function(SINGLE)
        _, specs = signature.structured_input_signature
        self._inputs = sorted(specs)
        self._outputs = sorted(signature.structured_outputs)
        graph = freeze(
            lambda *values: dict(signature(**dict(zip(self._inputs, values, strict=True)))),
            *(specs[name] for name in self._inputs),
        )
        engine = registry.find("engine", name)()
        self._run: Run = engine.compile(graph, precision=precision, threads=threads or cores())

    def predict(self, batch: Values) -> dict[str, np.ndarray]:
        """Returns the signature's outputs."""
        made = self._run([batch[name] for name in self._inputs])
        return dict(zip(self._outputs, made, strict=True))


def put_on_engine(model: Model, runtime: Runtime, *, console: Console) -> str:
    """Lets the engine of `--runtime.engine` compute the model's outputs.

    An engine takes over only if its answers to synthetic examples agree with TensorFlow's as closely as an export's must
    with what was evaluated.

    Args:
        model: is changed.
        runtime: the engine, its precision and threads; `auto`: the fastest that is installed, by measurement.
        console: hears which one it is, and of those that failed.

    Returns:
        The engine's name.

    Raises:
        UserError: the engine that was asked for is not installed, or cannot run the model, or answers otherwise.
    """
    names = candidates(runtime.engine, precision=served_precision(runtime.engine_precision))
    others = [name for name in names if name != TENSORFLOW]
    if not others:
        return TENSORFLOW
    works = model.synthetic_work()
    runner, engine, seconds = model.runner, TENSORFLOW, {}
    if runtime.engine == "auto":
        seconds[TENSORFLOW] = _seconds(model, works)
    why = ""
    for name in others:
        model.runner = runner
        try:
            found = EngineRunner(
                model, name, precision=served_precision(runtime.engine_precision), threads=runtime.threads
            )
            proof = model.put_on(found)
            why = "" if proof.passed else f"it answers otherwise than TensorFlow: {proof.reason}"
        except UserError:
            raise
        except Exception as error:  # an engine may fail in any way
            why = (
                f"it cannot run the model ({(str(error).strip().partition(chr(10))[0] or type(error).__name__)[:200]})"
            )
        if why:
            console.say(f"The engine {name} is not used: {why}.")
            continue
        seconds[name] = _seconds(model, works)
        if seconds[name] <= min(seconds.values()):
            runner, engine = found, name
            difference = proof.max_difference
    model.runner = runner
    if engine == TENSORFLOW and runtime.engine != "auto":
        raise UserError(f"--runtime.engine={runtime.engine}: {why}; write tensorflow or auto.")
    if engine != TENSORFLOW:
        told = ", ".join(f"{name} {1000 * s:.1f} ms" for name, s in sorted(seconds.items(), key=lambda item: item[1]))
        sizes = " and ".join(map(str, _SIZES))
        console.say(
            f"The model runs on {engine} (batches of {sizes}: {told}); its answers differ by at most {difference:.1e}."
        )
    return engine


def _seconds(model: Model, works: Sequence[Work]) -> float:
    """Returns the time of one batch of each size: the shortest, what else the machine does only makes it longer."""
    total = 0.0
    for size in _SIZES:
        batch = [works[0]] * size
        model.predict(batch)  # the first of a size takes longer
        times = []
        for _ in range(_REPETITIONS):
            started = time.perf_counter()
            model.predict(batch)
            times.append(time.perf_counter() - started)
        total += min(times)
    return total
