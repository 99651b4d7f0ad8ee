"""A loss and metrics that the user gives as Python functions, in place of a task's own loss and beside its metrics."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.tasks import State, Task, Tensors
from tfpt.tasks._labelled import Labelled

if TYPE_CHECKING:
    import keras
    import numpy as np

Loss = Callable[[Any, Any], Any]
"""`loss(truth, outputs)`: tensors of a batch -> the loss of each example, `[batch]`."""
Metric = Callable[["np.ndarray", "np.ndarray"], float]
"""`metric(truth, answers)`: arrays of all examples -> a number."""

_BUILT_IN = {"loss": "auto", "label_smoothing": 0.0, "class_weights": "none"}
"""Settings of a task's own loss, and what they are where nobody set them."""


def with_functions(task: Task, *, loss: Loss | None, metrics: Any) -> tuple[Task, str]:
    """Returns a task that learns by a function and is also measured by functions, and what a record calls it.

    The task stays of its class, so what is exported needs neither function. The name holds the functions' names and a
    digest of their code, so that a run is not gone on with after one was changed; values that they take from elsewhere are
    not in it.

    Args:
        task: with a label an example.
        loss: takes truth and model outputs (logits; for numbers, in standard deviations from the mean), both
            `[batch, width]` float32; the truth of one class an example is one-hot, and may be mixed by an op. Or a
            `keras.losses.Loss`.
        metrics: functions by name, or a list of them. Each takes the truth (`[examples]` class indices,
            `[examples, classes]` bool, or `[examples, numbers]`) and the answers (probabilities `[examples, classes]`, or
            `[examples, numbers]`), NumPy arrays, and is called for each bootstrap sample as well.

    Raises:
        UserError: the task learns no labels, or a function is none or has no fitting name.
    """
    if not isinstance(task, Labelled):
        raise UserError(
            f"loss= and metrics= are for tasks with a label an example; {type(task).__name__} has its own: subclass it."
        )
    if isinstance(loss, str) or not (loss is None or callable(loss)):
        raise UserError(
            f'loss={loss!r}: give a function; one of the task\'s own losses is task_options={{"loss": "..."}}.'
        )
    for name, usual in _BUILT_IN.items():
        if loss is not None and getattr(task.config, name, usual) != usual:
            raise UserError(
                f"loss=: task.{name}={getattr(task.config, name)} belongs to the task's own loss; leave one out."
            )
    named = _named(metrics, taken=("loss", *task.metric_names()))
    cls = type(task)
    own = type(cls.__name__, (_WithFunctions, cls), {"__module__": cls.__module__})(task.argument, task.config)
    own.own_loss, own.own_metrics = loss, named
    parts = [
        cls.__name__,
        *([f"loss={_told(loss)}"] if loss else []),
        *(f"{name}={_told(f)}" for name, f in named.items()),
    ]
    return own, "+".join(parts)


class _WithFunctions(Labelled):
    """Goes before the class of a task."""

    own_loss: Loss | None
    own_metrics: Mapping[str, Metric]

    def loss(self, model: "keras.Model", batch: Tensors, training: bool) -> tuple[Any, Any, Any]:
        """Returns `(loss_sum, weight_sum, outputs)` by the user's function."""
        import keras
        import tensorflow as tf

        if self.own_loss is None:
            return super().loss(model, batch, training)
        outputs = model(batch["inputs"], training=training)
        truth = batch["targets"]
        if truth.dtype.is_integer and truth.shape.rank == 1:
            truth = tf.one_hot(truth, outputs.shape[-1])
        function = self.own_loss.call if isinstance(self.own_loss, keras.losses.Loss) else self.own_loss
        losses = tf.cast(function(tf.cast(truth, tf.float32), tf.cast(outputs, tf.float32)), tf.float32)
        if losses.shape.rank != 1:
            raise UserError(
                f"loss={_name(self.own_loss)} returns the shape {losses.shape}; it must return the loss of each example, [batch]."
            )
        weight = tf.cast(batch["weight"], tf.float32)
        return tf.reduce_sum(losses * weight), tf.reduce_sum(weight), outputs

    def statistics(self, outputs: Any, batch: Tensors, state: State) -> dict[str, Any]:
        """Returns also the scores that a metric takes, where the task itself needs none."""
        import tensorflow as tf

        found = super().statistics(outputs, batch, state)
        missing = self.own_metrics and "label" in found and "scores" not in found
        return {**found, "scores": tf.nn.softmax(outputs)} if missing else found

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns the user's metrics behind the task's."""
        found = super().metrics(statistics, state)
        truth, answers = next(pair for pair in _PAIRS if set(pair) <= set(statistics)) if self.own_metrics else ("", "")
        return found | {name: float(f(statistics[truth], statistics[answers])) for name, f in self.own_metrics.items()}

    def metric_names_of(self, state: State) -> Sequence[str]:
        """Returns the task's names and the user's."""
        return (*super().metric_names_of(state), *self.own_metrics)


_PAIRS = (("label", "scores"), ("labels", "scores"), ("target", "value"))
"""Names of truth and answers among the statistics of each kind of label."""


def _named(metrics: Any, *, taken: Sequence[str]) -> dict[str, Metric]:
    given = metrics if isinstance(metrics, Mapping) else {_name(one): one for one in metrics or ()}
    for name, function in given.items():
        if not callable(function) or hasattr(function, "reset_state"):
            raise UserError(
                f"metrics: {name} is not a function of truth and answers, two arrays, that returns a number."
            )
        if not re.fullmatch(r"\w+", name) or name in taken:
            why = "is a name of the task's own" if name in taken else "is not of letters, digits and _"
            raise UserError(f'metrics: {name} {why}; give another: metrics={{"my_metric": function}}.')
    return dict(given)


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _told(function: Any) -> str:
    """Returns a function's name and a digest of what it does, as far as that can be seen."""
    made = function.get_config() if hasattr(function, "get_config") else _code(getattr(function, "__code__", None))
    return f"{re.sub(r'[^0-9A-Za-z_]', '', _name(function))}@{hashlib.sha256(repr(made).encode()).hexdigest()[:8]}"


def _code(code: CodeType | None) -> Any:
    if code is None:
        return None
    inside = [
        _code(one) if isinstance(one, CodeType) else sorted(map(repr, one)) if isinstance(one, frozenset) else one
        for one in code.co_consts
    ]
    return code.co_code, code.co_names, inside
