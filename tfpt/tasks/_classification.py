"""What picture and text classifiers share: a linear layer on the pooled output, and classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.errors import UserError
from tfpt.tasks import Primary, State, Task, Tensors

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.data import DataSource


class Classification(Task):
    """One of several classes for each example."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `task`."""

        dropout: float = setting(0.0, "Share of the pooled features that is dropped before the head in training.")
        label_smoothing: float = setting(0.0, "Share of the target that is spread over all classes.")

        def __post_init__(self) -> None:
            check(0 <= self.dropout < 1, f"dropout: {self.dropout} is not at least 0 and below 1")
            check(
                0 <= self.label_smoothing < 1, f"label_smoothing: {self.label_smoothing} is not at least 0 and below 1"
            )

    primary = Primary("accuracy")
    proportions = ("accuracy",)
    kept_answers = ("scores",)

    def adapt(self, source: "DataSource", train: "np.ndarray") -> State:
        """Takes the class names from the source."""
        info = source.info()
        if len(info.classes) < 2:
            raise UserError(
                f"--data: {info.origin or 'the source'} holds one class only, {', '.join(info.classes)}; classification needs at least two."
                if info.classes
                else f"--data: {info.origin or 'the source'} has no classes, which classification needs."
            )
        return {"classes": list(info.classes)}

    def build(self, trunks: Mapping[str, "keras.layers.Layer"], state: State) -> "keras.Model":
        """Puts dropout and a linear layer on the pooled output; the layer starts at zero, so all classes start equal."""
        import keras

        (trunk,) = trunks.values()
        inputs = trunk.host_input()
        pooled = trunk(inputs)["pooled"]
        dropped = keras.layers.Dropout(self.config.dropout, dtype="float32", name="head_dropout")(pooled)
        logits = keras.layers.Dense(len(state["classes"]), kernel_initializer="zeros", dtype="float32", name="head")(
            dropped
        )
        return keras.Model(inputs, logits, name="classification")

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Returns the cross-entropy of each example, in nats."""
        import tensorflow as tf

        classes = outputs.shape[-1]
        smoothing = self.config.label_smoothing
        wanted = tf.one_hot(targets, classes) if targets.shape.rank == 1 else targets
        return tf.nn.softmax_cross_entropy_with_logits(wanted * (1.0 - smoothing) + smoothing / classes, outputs)

    def decode(self, outputs: Any, frame: Tensors, state: State) -> dict[str, Any]:
        """Returns `label` (the most probable class), `score` (its probability), and `scores` of all `classes`."""
        import tensorflow as tf

        scores = tf.nn.softmax(outputs)
        classes = tf.constant(state["classes"])
        return {
            "label": tf.gather(classes, tf.argmax(scores, axis=-1)),
            "score": tf.reduce_max(scores, axis=-1),
            "scores": scores,
            "classes": tf.tile(classes[tf.newaxis], [tf.shape(scores)[0], 1]),
        }

    def statistics(self, outputs: Any, batch: Tensors, state: State) -> dict[str, Any]:
        """Returns prediction, label and the label's log-likelihood, as `metrics.classification.outcomes` does."""
        import tensorflow as tf

        from tfpt.metrics.classification import EPSILON

        scores = tf.nn.softmax(outputs)
        label = tf.cast(batch["targets"], tf.int64)
        of_label = tf.gather(scores, label, batch_dims=1)
        return {
            "predicted": tf.argmax(scores, axis=-1),
            "label": label,
            "log_likelihood": tf.math.log(tf.clip_by_value(of_label, EPSILON, 1 - EPSILON)),
        }

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns accuracy, macro precision, recall and F1, and log loss."""
        from tfpt.metrics.classification import metrics_of_outcomes

        return metrics_of_outcomes(statistics)

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns the confusion matrix and precision, recall and F1 of each class."""
        from tfpt.metrics.classification import confusion_matrix, per_class

        classes = state["classes"]
        confusion = confusion_matrix(statistics["predicted"], statistics["label"], classes=len(classes))
        return {"classes": classes, "confusion": confusion.tolist(), "per_class": per_class(confusion, classes)}

    def metric_names(self) -> Sequence[str]:
        """Returns the names of what `metrics` returns."""
        return ("accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss")
