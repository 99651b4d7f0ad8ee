"""What labels can be: one class, any number of classes, or numbers. Each kind knows all that follows from that."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tfpt.tasks import State

if TYPE_CHECKING:
    import numpy as np

    from tfpt.data import Info

LOWER_IS_BETTER = frozenset(("log_loss", "expected_calibration_error", "mae", "rmse"))

IMBALANCE = 5
"""The largest class has so many times the examples of the smallest before anything is said about it."""


class LabelKind:
    """One kind of label. It holds nothing: what is learned from the data is in the task's state."""

    name: ClassVar[str]
    """What `--task.labels` and the state call it."""
    feature: ClassVar[str]
    """The raw feature that holds it."""
    losses_by_name: ClassVar[tuple[str, ...]]
    """What `--task.loss` may be; the first is what auto means."""
    proportions: ClassVar[tuple[str, ...]] = ()
    """Metrics that are a share of examples."""
    possible_metrics: ClassVar[tuple[str, ...]]
    """Metrics that some data has."""

    def adapt(self, info: "Info", values: "np.ndarray", config: Any) -> dict[str, Any]:
        """Returns the kind's part of the task's state.

        Args:
            info: of the source.
            values: `[training examples, ...]`, the feature.
            config: of the task.

        Raises:
            UserError: a setting does not fit the data.
        """
        raise NotImplementedError

    def width(self, state: State) -> int:
        """Returns how many numbers the model puts out for an example."""
        return len(state["classes"])

    def metric_names(self, state: State) -> Sequence[str]:
        """Returns the names of what `metrics` returns."""
        return self.possible_metrics

    def primary(self, state: State) -> str:
        """Returns the metric that everything goes by where the user names none."""
        raise NotImplementedError

    def notes(self, state: State, config: Any) -> Sequence[str]:
        """Returns sentences for the user about the labels."""
        return ()

    def class_weights(self, state: State) -> Any:
        """Returns what weighs all classes alike in the loss, as plain nested tuples."""
        raise NotImplementedError

    def targets(self, raw: Any, state: State, training: bool) -> Any:
        """Returns what the loss compares with, `[batch, ...]`, from a batch of the raw feature."""
        return raw

    def losses(self, outputs: Any, targets: Any, config: Any, class_weights: Any) -> tuple[Any, Any]:
        """Returns the loss of each example, already weighted, and its weight, `[batch]` float32 each.

        Args:
            outputs: of the model, `[batch, width]`.
            targets: as `targets` makes them, or mixed by an op.
            config: of the task.
            class_weights: as `class_weights` makes them; empty for none.
        """
        raise NotImplementedError

    def decode(self, outputs: Any, state: State) -> dict[str, Any]:
        """Returns what a client reads."""
        raise NotImplementedError

    def statistics(self, outputs: Any, targets: Any, state: State) -> dict[str, Any]:
        """Returns the values of each example that `metrics` takes, `[batch, ...]` each."""
        raise NotImplementedError

    def calibrate(self, statistics: Mapping[str, "np.ndarray"], state: State) -> State:
        """Returns the state with what is chosen on the validation split."""
        return state

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns metrics by name."""
        raise NotImplementedError

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns what metrics.json holds besides."""
        return {}


def bounded_log(scores: Any) -> Any:
    """Returns the logarithm of probabilities, which are kept from 0 and 1 as the metrics in numpy keep them."""
    import tensorflow as tf

    from tfpt.metrics.classification import EPSILON

    return tf.math.log(tf.clip_by_value(scores, EPSILON, 1 - EPSILON))


def imbalance(counts: Sequence[int], classes: Sequence[str]) -> str:
    """Returns the beginning of a sentence about classes of very different size; empty where they are not."""
    largest, smallest = max(counts), min(counts)
    if largest <= IMBALANCE * smallest:
        return ""
    names = classes[counts.index(largest)], classes[counts.index(smallest)]
    return (
        f"The class {names[0]} has {largest} training examples and the class {names[1]} has {smallest}, over {IMBALANCE} times "
        "fewer"
    )
