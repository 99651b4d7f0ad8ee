"""Any number of classes for each example, each decided for itself from a threshold of its own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.tasks import State
from tfpt.tasks._label_kind import LabelKind, bounded_log, imbalance

if TYPE_CHECKING:
    import numpy as np

    from tfpt.data import Info


class MultiLabel(LabelKind):
    """Any number of classes: a sigmoid and a binary cross-entropy for each."""

    name = "multi"
    feature = "labels"
    losses_by_name = ("cross_entropy", "focal")
    proportions = ("subset_accuracy",)
    possible_metrics = ("macro_f1", "micro_f1", "subset_accuracy", "roc_auc", "average_precision", "log_loss")

    def adapt(self, info: "Info", values: "np.ndarray", config: Any) -> dict[str, Any]:
        """Takes the class names, and counts examples."""
        if not info.classes:
            raise UserError(f"--data: {info.origin or 'the source'} has no classes, which classification needs.")
        if config.temperature != "off":
            raise UserError(
                f"--task.temperature={config.temperature} is for one class an example, and these may have several; leave it out."
            )
        fixed = config.threshold if isinstance(config.threshold, float) else 0.5
        return {
            "classes": list(info.classes),
            "counts": values.sum(axis=0).astype(int).tolist(),
            "examples": len(values),
            "thresholds": [fixed] * len(info.classes),
            "calibrated": not isinstance(config.threshold, float),
        }

    def primary(self, state: State) -> str:
        """Returns mean average precision: unlike F1 it does not wait for thresholds, which are chosen after training."""
        return "average_precision"

    def notes(self, state: State, config: Any) -> Sequence[str]:
        """Says which classes have no training example, and that classes are of very different size."""
        pairs = list(zip(state["classes"], state["counts"], strict=True))
        never = [name for name, count in pairs if not count]
        there = {name: count for name, count in pairs if count}
        said = []
        if never:
            more = f" and {len(never) - 5} more" if len(never) > 5 else ""
            said.append(f"{', '.join(never[:5])}{more}: no training example has the class, so it cannot be recognised.")
        found = imbalance(list(there.values()), list(there)) if there else ""
        if found and config.class_weights == "none":
            said.append(f"{found}; --task.class_weights=balanced weighs a class's few examples more.")
        return said

    def class_weights(self, state: State) -> tuple[tuple[float, float], ...]:
        """Returns for each class the weights of examples without and with it, both in all half of the examples."""
        examples = state["examples"]
        return tuple(
            (examples / (2 * max(1, examples - count)), examples / (2 * max(1, count))) for count in state["counts"]
        )

    def losses(self, outputs: Any, targets: Any, config: Any, class_weights: Any) -> tuple[Any, Any]:
        """Returns the mean over classes of binary cross-entropies or focal losses, in nats.

        The focal loss is that of Lin et al. ("Focal Loss for Dense Object Detection", ICCV 2017, formula 4).
        """
        import tensorflow as tf

        wanted = targets * (1.0 - config.label_smoothing) + config.label_smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(wanted, outputs)
        if config.loss == "focal":
            off = wanted * tf.sigmoid(-outputs) + (1.0 - wanted) * tf.sigmoid(outputs)
            losses *= tf.pow(off, config.focal_gamma)
        if class_weights:
            without, having = tf.unstack(tf.constant(class_weights), axis=1)
            losses *= targets * having + (1.0 - targets) * without
        return tf.reduce_mean(losses, axis=-1), tf.ones_like(outputs[:, 0])

    def decode(self, outputs: Any, state: State) -> dict[str, Any]:
        """Returns `chosen` (bool), `scores` (probabilities) and names of all `classes`, `[batch, classes]` each."""
        import tensorflow as tf

        scores = tf.sigmoid(outputs)
        return {
            "chosen": scores >= tf.constant(state["thresholds"], tf.float32),
            "scores": scores,
            "classes": tf.tile(tf.constant(state["classes"])[tf.newaxis], [tf.shape(scores)[0], 1]),
        }

    def statistics(self, outputs: Any, targets: Any, state: State) -> dict[str, Any]:
        """Returns what `metrics.multi_label.multi_label_metrics` takes."""
        import tensorflow as tf

        scores, labels = tf.sigmoid(outputs), targets > 0.5
        return {
            "scores": scores,
            "labels": labels,
            "chosen": scores >= tf.constant(state["thresholds"], tf.float32),
            "log_likelihood": tf.reduce_mean(bounded_log(tf.where(labels, scores, 1.0 - scores)), axis=-1),
        }

    def calibrate(self, statistics: Mapping[str, "np.ndarray"], state: State) -> State:
        """Chooses each class's threshold, unless the user has."""
        from tfpt.metrics.thresholds import best_f1_threshold

        columns = zip(statistics["scores"].T, statistics["labels"].T, strict=True)
        return {**state, "thresholds": [best_f1_threshold(scores, truth) for scores, truth in columns]}

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns the metrics."""
        from tfpt.metrics.multi_label import multi_label_metrics

        return multi_label_metrics(statistics)

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns each class's threshold and metrics, and what choosing every class would reach."""
        import numpy as np

        from tfpt.metrics.multi_label import f1_metrics, per_class
        from tfpt.metrics.ranking import ranking_metrics

        labels = statistics["labels"]
        guess = ranking_metrics(np.zeros(labels.shape, np.float32), labels)
        return {
            "classes": state["classes"],
            "per_class": per_class(statistics, state["classes"], state["thresholds"]),
            "baseline": {**f1_metrics(np.ones_like(labels), labels), **guess},
            "baseline_answer": "every class, always",
        }
