"""One or several numbers for each example."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.tasks import State
from tfpt.tasks._label_kind import LabelKind

if TYPE_CHECKING:
    import numpy as np

    from tfpt.data import Info


class Values(LabelKind):
    """Numbers. The model learns them in units of the training examples' standard deviations from their mean."""

    name = "values"
    feature = "target"
    losses_by_name = ("mse", "mae", "huber")
    possible_metrics = ("r2", "mae", "rmse", "pearson", "spearman")

    def adapt(self, info: "Info", values: "np.ndarray", config: Any) -> dict[str, Any]:
        """Takes mean and standard deviation of each number."""
        import numpy as np

        for name, value, usual in (
            ("label_smoothing", getattr(config, "label_smoothing", 0.0), 0.0),
            ("class_weights", getattr(config, "class_weights", "none"), "none"),
            ("threshold", getattr(config, "threshold", "auto"), "auto"),
            ("temperature", getattr(config, "temperature", "off"), "off"),
        ):
            if value != usual:
                raise UserError(f"--task.{name}={value} is for classes, and the labels of this data are numbers.")
        values = values.astype(np.float64).reshape(len(values), -1)
        spread = values.std(axis=0)
        return {"mean": values.mean(axis=0).tolist(), "spread": np.where(spread > 0, spread, 1.0).tolist()}

    def width(self, state: State) -> int:
        """Returns how many numbers an example has."""
        return len(state["mean"])

    def primary(self, state: State) -> str:
        """Returns R2, which needs no unit; where it says nothing, equal values let the loss decide."""
        return "r2"

    def targets(self, raw: Any, state: State, training: bool) -> Any:
        """Returns the numbers in standard deviations from the mean, `[batch, numbers]`."""
        import tensorflow as tf

        raw = tf.reshape(tf.cast(raw, tf.float32), [-1, self.width(state)])
        return (raw - tf.constant(state["mean"])) / tf.constant(state["spread"])

    def losses(self, outputs: Any, targets: Any, config: Any, class_weights: Any) -> tuple[Any, Any]:
        """Returns the mean over numbers of squared, absolute or Huber's errors.

        Huber's turns from squared to absolute at one standard deviation of the training targets (Huber, "Robust
        Estimation of a Location Parameter", 1964).
        """
        import tensorflow as tf

        size = tf.abs(outputs - targets)
        losses = {
            "mse": lambda: tf.square(size),
            "mae": lambda: size,
            "huber": lambda: tf.where(size <= 1.0, tf.square(size) / 2, size - 0.5),
        }["mse" if config.loss == "auto" else config.loss]()
        return tf.reduce_mean(losses, axis=-1), tf.ones_like(outputs[:, 0])

    def decode(self, outputs: Any, state: State) -> dict[str, Any]:
        """Returns `values`, `[batch, numbers]`, in the data's unit."""
        return {"values": _in_unit(outputs, state)}

    def statistics(self, outputs: Any, targets: Any, state: State) -> dict[str, Any]:
        """Returns `value` and `target`, `[batch, numbers]` each, in the data's unit."""
        return {"value": _in_unit(outputs, state), "target": _in_unit(targets, state)}

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns the metrics."""
        from tfpt.metrics.regression import regression_metrics

        return regression_metrics(statistics)

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns what answering the training mean would reach."""
        import numpy as np

        from tfpt.metrics.regression import regression_metrics

        target = statistics["target"]
        found = regression_metrics({"target": target, "value": np.broadcast_to(np.array(state["mean"]), target.shape)})
        baseline = {name: value for name, value in found.items() if np.isfinite(value)}
        return {"baseline": baseline, "baseline_answer": "the mean of the training examples, always"}


def _in_unit(values: Any, state: State) -> Any:
    import tensorflow as tf

    return values * tf.constant(state["spread"], tf.float32) + tf.constant(state["mean"], tf.float32)
