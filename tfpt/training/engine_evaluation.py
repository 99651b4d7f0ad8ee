"""Validation between epochs on an engine: its graph is read once, and gets the weights as they are each time.

What is reported at the end of a run is not measured here, but on the float32 model that is exported.
"""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt import registry
from tfpt.console import Console
from tfpt.cores import cores
from tfpt.engines import Engine, Refresh, Run, _choice
from tfpt.layers.lean import graph_that_stays_here
from tfpt.training.evaluate import ProgressEvaluation, progress_evaluation
from tfpt.training.interrupts import Pressed

TENSORFLOW = "tensorflow"
WORTH_IT = 20.0
"""Seconds that TensorFlow's evaluations of a stage must take together; for less no engine is looked at."""
WORTH_CHANGING = 0.1
"""Share of these seconds that an engine must save: less is the noise of the measurement."""
LEAST_BATCHES = 20
"""With fewer in all evaluations of a stage, not even TensorFlow's time is measured: that takes the time of three."""


class EngineEvaluation:
    """Evaluates a model as TensorFlow does, on an engine where that saves time.

    It is decided before the first evaluation of a stage, and holds for all of it, also where a run goes on.

    Args:
        plain: evaluates with TensorFlow.
        model: that it evaluates.
        still: variables that the model reads and does not hold; they do not change in this stage.
        wanted: an engine's name, or `auto`: one that saves time, by measurement.
        precision: of the engine: `float32`, `bfloat16`, or `auto`: as `trained_in`.
        trained_in: the arithmetic of training.
        threads: CPU threads; 0: one a core.
        examples: how many there are.
        times: how often they are evaluated in this stage.
        begun: what was decided when the stage began: `tensorflow`, or an engine and its precision; empty: nothing yet.
        keep: gets what is decided.
    """

    def __init__(
        self,
        plain: ProgressEvaluation,
        model: keras.Model,
        *,
        still: Collection[keras.Variable] = (),
        wanted: str,
        precision: str,
        trained_in: str,
        threads: int,
        examples: int,
        times: int,
        begun: str,
        keep: Callable[[str], None],
    ) -> None:
        self._plain = plain
        self._model = model
        self._still = still
        self._wanted = wanted
        self._precision = precision
        self._trained_in = trained_in
        self._threads = threads
        self._examples = examples
        self._times = times
        self._begun = begun
        self._keep = keep
        self._decided = False
        self._on: _OnEngine | None = None

    def __call__(self, pressed: Pressed, console: Console) -> dict[str, float]:
        """Returns the task's metrics and `loss`, the mean; arguments as those of `ProgressEvaluation`."""
        if not self._decided:
            self._on = self._again(console) if self._begun else self._first(console)
            self._decided = True
        if self._on is None:
            return self._plain(pressed, console)
        try:
            return self._on(pressed, console)
        except Exception:  # an engine may fail in any way
            failure = self._on.stand_in.failure
            if failure is None:
                raise
            console.warn(
                f"Validation failed on {self._on.words} ({_choice.first_line(failure)}): TensorFlow goes on, and its numbers differ "
                "by rounding."
            )
        self._on = None
        self._keep(TENSORFLOW)
        return self._plain(pressed, console)

    def _again(self, console: Console) -> "_OnEngine | None":
        """Returns the engine that the stage began with; None for TensorFlow."""
        name, _, precision = self._begun.partition(" ")
        if name == TENSORFLOW:
            return None
        why = "cannot run here"
        if registry.find("engine", name).version():
            on = self._made(name, precision)
            try:
                on.of(self._sample(), console)
                return on
            except Exception as error:  # what ran before may not now
                why = f"failed ({_choice.first_line(on.stand_in.failure or error)})"
        console.warn(
            f"The stage began with validation on {name}, which {why}: TensorFlow goes on, and its numbers differ by rounding."
        )
        self._keep(TENSORFLOW)
        return None

    def _first(self, console: Console) -> "_OnEngine | None":
        """Returns the engine that saves time; None for TensorFlow."""
        on = self._chosen(console)
        self._keep(f"{on.name} {on.precision}" if on else TENSORFLOW)
        return on

    def _chosen(self, console: Console) -> "_OnEngine | None":
        asked, batches = self._wanted != "auto", self._times * -(-self._examples // self._batch_size)
        if batches < LEAST_BATCHES and not asked:  # before an engine is asked anything: that loads its libraries
            return None
        ways = self._ways()
        if asked and not ways:
            console.say(f"Validation runs on tensorflow ({self._wanted} cannot run it here).")
        if not ways:
            return None
        sample = self._sample()
        seconds = 0.0
        if not asked:
            seconds = _seconds(self._plain, sample, console)
            if batches * seconds < WORTH_IT:
                return None
        for name, precision in ways:
            on = self._made(name, precision)
            try:
                why = on.unlike(sample, console)
                its_seconds = 0.0 if why or asked else _seconds(on, sample, console)
            except Exception as error:  # an engine may fail in any way
                why = f"cannot run this model ({_choice.first_line(on.stand_in.failure or error)})"
            if why:
                console.say(f"Validation: {on.words} {why}, and is not used.")
                continue
            if asked:
                console.say(f"Validation runs on {on.words} (as asked).")
                return on
            rates = (
                f"{on.words} {self._batch_size / its_seconds:,.0f} examples/s and {on.stand_in.seconds:.2g} s for the weights each "
                f"time, tensorflow {self._batch_size / seconds:,.0f} examples/s"
            )
            saved = batches * (seconds - its_seconds) - self._times * on.stand_in.seconds
            if saved > WORTH_CHANGING * batches * seconds:
                console.say(f"Validation runs on {on.words} ({rates}).")
                return on
            console.say(f"Validation runs on tensorflow ({rates}).")
            break  # without rounding it is no faster
        return None

    def _ways(self) -> list[tuple[str, str]]:
        """Returns engines and precisions, the faster first."""
        names = registry.names("engine") if self._wanted == "auto" else [self._wanted]
        found = []
        for name in names:
            engine: type[Engine] = registry.find("engine", name)
            if engine.prepare is Engine.prepare or not engine.version():
                continue
            precisions = [self._trained_in, "float32"] if self._precision == "auto" else [self._precision]
            found += [(name, one) for one in dict.fromkeys(precisions) if one in engine.precisions()]
        return found

    def _made(self, name: str, precision: str) -> "_OnEngine":
        return _OnEngine(
            StandIn(self._model, self._still, engine=name, precision=precision, threads=self._threads),
            self._plain,
            at_a_time=_choice.at_a_time(self._threads),
            exact=precision == self._trained_in == "float32",
        )

    @property
    def _batch_size(self) -> int:
        return int(self._plain.batches.element_spec["weight"].shape[0])

    def _sample(self) -> Any:
        """Returns a usual batch: the one in the middle where lengths differ, for the longest come first."""
        batches = self._plain.batches
        specs = tf.nest.flatten(batches.element_spec["inputs"])
        if not all(spec.shape.is_fully_defined() for spec in specs):
            batches = batches.skip(-(-self._examples // self._batch_size) // 2)
        return next(iter(batches.take(1)))


class StandIn:
    """What a task's loss gets in place of a model: its outputs in inference mode come from an engine.

    Everything else is the model's own.

    Args:
        model: it stands in for.
        still: see `EngineEvaluation`.
        engine: name of the engine.
        precision: of the engine.
        threads: CPU threads; 0: one a core.
    """

    def __init__(
        self, model: keras.Model, still: Collection[keras.Variable], *, engine: str, precision: str, threads: int
    ) -> None:
        self.engine, self.precision = engine, precision
        self.failure: Exception | None = None
        """What the engine failed with."""
        self.seconds = 0.0
        """That it took to take in the weights."""
        self._model = model
        self._threads = threads
        self._still = {id(v.value.handle) for v in still}
        self._variables = [v for v in model.variables if tf.as_dtype(v.dtype).is_floating]
        self._spec: Any = None
        self._outputs: Any = None
        self._graph: Any = None
        self._refresh: Refresh | None = None
        self._run: Run | None = None
        self._last: tuple[Sequence[np.ndarray], Sequence[np.ndarray]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        """Returns the model's outputs, in a graph; the engine gets the model when it is called for the first time."""
        if training:
            raise ValueError("the task's loss trains")
        spec = tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), inputs)
        try:
            with tf.init_scope():
                self._prepare(spec)
        except Exception as error:
            self.failure = error
            raise
        specs = tf.nest.flatten(self._outputs)
        made = tf.numpy_function(self._compute, tf.nest.flatten(inputs), [one.dtype for one in specs])
        for tensor, one in zip(made, specs, strict=True):
            tensor.set_shape(one.shape)
        return tf.nest.pack_sequence_as(self._outputs, made)

    def take_weights(self) -> None:
        """Gives the engine the weights as they are now."""
        if self._refresh is None or self._run is not None:  # it takes them when the loss is traced, or has them
            return
        started = time.perf_counter()
        try:
            self._run = self._refresh(self._values())
        except Exception as error:
            self.failure = error
            raise
        self.seconds = time.perf_counter() - started

    def forget_weights(self) -> None:
        """Lets the memory go that they take."""
        self._run = self._last = None

    def compared(self) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        """Returns the engine's outputs for the last inputs that it got, and TensorFlow's."""
        assert self._last is not None, "the task's loss does not call the model"
        inputs, found = self._last
        wanted = self._graph(*map(tf.constant, (*self._values(), *inputs)))
        return found, [tensor.numpy() for tensor in tf.nest.flatten(wanted)]

    def _prepare(self, spec: Any) -> None:
        if self._spec is not None:
            if spec != self._spec:
                raise ValueError("the task's loss calls the model on several kinds of inputs")
            return

        def of_weights(weights: Any, inputs: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(self._variables, weights, strict=True))):
                return self._model(inputs, training=False)

        weights = [tf.TensorSpec(v.shape, v.dtype) for v in self._variables]
        with graph_that_stays_here(False):
            concrete = tf.function(of_weights, autograph=False).get_concrete_function(weights, spec)
        held = (one for one in concrete.captured_inputs if one.dtype == tf.resource)
        if any(id(handle) not in self._still for handle in held):
            raise ValueError("the model reads variables that are not its own")
        self._outputs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), concrete.structured_outputs)
        self._graph = _choice.freeze(concrete)
        self._refresh = registry.find("engine", self.engine)().prepare(
            self._graph,
            weights=len(weights),
            precision=self.precision,
            threads=self._threads or cores(),
            at_a_time=_choice.at_a_time(self._threads),
        )
        if self._refresh is None:
            raise ValueError("it cannot take weights anew")
        self._spec = spec
        self.take_weights()

    def _values(self) -> list[np.ndarray]:
        return [v.numpy() for v in self._variables]

    def _compute(self, *inputs: np.ndarray) -> list[np.ndarray]:
        try:
            assert self._run is not None
            made = self._run(inputs)
        except Exception as error:
            self.failure = error
            raise
        self._last = inputs, made
        return made


class _OnEngine:
    """An evaluation with a stand-in for the model."""

    def __init__(self, stand_in: StandIn, plain: ProgressEvaluation, *, at_a_time: int, exact: bool) -> None:
        self.stand_in = stand_in
        self.name, self.precision = stand_in.engine, stand_in.precision
        self.words = _choice.in_words(self.name, self.precision)
        self._evaluation = progress_evaluation(plain.task, plain.state, stand_in, plain.batches, at_a_time=at_a_time)
        self._exact = exact

    def of(self, batch: Any, console: Console) -> list[tuple[Any, Any]]:
        """Returns what `ProgressEvaluation.of` does."""
        return self._evaluation.of(batch, console)

    @property
    def at_a_time(self) -> int:
        """How many batches are on their way at once."""
        return self._evaluation.at_a_time

    def unlike(self, batch: Any, console: Console) -> str:
        """Returns, in words, in what outputs differ too much from TensorFlow's; empty where they do not."""
        self.of(batch, console)
        return _choice.unlike(*self.stand_in.compared(), "float32" if self._exact else "bfloat16")

    def __call__(self, pressed: Pressed, console: Console) -> dict[str, float]:
        """Returns the metrics with the weights as they are now."""
        self.stand_in.take_weights()
        try:
            return self._evaluation(pressed, console)
        finally:
            self.stand_in.forget_weights()


def _seconds(evaluation: "ProgressEvaluation | _OnEngine", batch: Any, console: Console) -> float:
    """Returns the time of a batch, side by side with others."""
    evaluation.of(batch, console)  # the first starts everything
    started = time.perf_counter()
    with ThreadPoolExecutor(evaluation.at_a_time) as pool:
        list(pool.map(lambda _: evaluation.of(batch, console), range(evaluation.at_a_time)))
    return (time.perf_counter() - started) / evaluation.at_a_time
