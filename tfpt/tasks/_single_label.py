"""One of several classes for each example; two classes may have a threshold between them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.tasks import State
from tfpt.tasks._label_kind import LabelKind, bounded_log, imbalance

if TYPE_CHECKING:
    import numpy as np

    from tfpt.data import Info

_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "matthews",
    "expected_calibration_error",
    "log_loss",
)
_RANKING = ("roc_auc", "average_precision")

TOP = 5
"""Top-5 accuracy, with more classes than that."""

MOST_RANKED = 20
"""With more classes than this ROC AUC and average precision are left out: they need all scores of all examples."""


class SingleLabel(LabelKind):
    """One of several classes: softmax and cross-entropy."""

    name = "single"
    feature = "label"
    losses_by_name = ("cross_entropy", "focal")
    proportions = ("accuracy", "top5_accuracy")
    possible_metrics = (*_METRICS, "top5_accuracy", "f1", *_RANKING)

    def adapt(self, info: "Info", values: "np.ndarray", config: Any) -> dict[str, Any]:
        """Takes the class names, and counts examples."""
        import numpy as np

        if len(info.classes) < 2:
            raise UserError(
                f"--data: {info.origin or 'the source'} holds one class only, {', '.join(info.classes)}; classification needs at least two."
                if info.classes
                else f"--data: {info.origin or 'the source'} has no classes, which classification needs."
            )
        state: dict[str, Any] = {"classes": list(info.classes)}
        state["counts"] = np.bincount(values, minlength=len(info.classes)).tolist()
        if config.temperature == "auto":
            state["temperature"] = None  # until it is chosen
        if config.threshold == "auto":
            return state
        if len(info.classes) > 2:
            raise UserError(
                f"--task.threshold={config.threshold}: with {len(info.classes)} classes an example gets the one with the highest score; "
                "a threshold is for two classes, or for any number of classes an example."
            )
        chosen = config.threshold == "f1"
        return {**state, "threshold": 0.5 if chosen else config.threshold, "calibrated": chosen}

    def metric_names(self, state: State) -> Sequence[str]:
        """Returns the names, which depend on the number of classes."""
        count = len(state["classes"])
        return (
            *_METRICS,
            *(["top5_accuracy"] if count > TOP else []),
            *(["f1"] if count == 2 else []),
            *(_RANKING if count <= MOST_RANKED else []),
        )

    def primary(self, state: State) -> str:
        """Returns accuracy, or macro F1 where it would be high for ignoring small classes."""
        return "macro_f1" if imbalance(state["counts"], state["classes"]) else "accuracy"

    def notes(self, state: State, config: Any) -> Sequence[str]:
        """Says that classes are of very different size, and what that changes."""
        found = imbalance(state["counts"], state["classes"])
        if not found:
            return ()
        primary = (
            ": macro_f1 is the primary metric, not accuracy (--task.metric=accuracy goes by that)"
            if config.metric == "auto"
            else ""
        )
        weights = (
            "--task.class_weights=balanced weighs all classes alike"
            if config.class_weights == "none"
            else "all classes weigh alike in the loss"
        )
        return (f"{found}{primary}; {weights}.",)

    def class_weights(self, state: State) -> tuple[float, ...]:
        """Returns a weight for each class: examples / (classes * examples of the class), as scikit-learn's `balanced`."""
        counts = state["counts"]
        return tuple(sum(counts) / (len(counts) * max(1, count)) for count in counts)

    def targets(self, raw: Any, state: State, training: bool) -> Any:
        """Returns class indices, `[batch]`; to train on, shares of classes, `[batch, classes]`, which can be mixed."""
        import tensorflow as tf

        return tf.one_hot(raw, self.width(state)) if training else raw

    def losses(self, outputs: Any, targets: Any, config: Any, class_weights: Any) -> tuple[Any, Any]:
        """Returns the cross-entropy or the focal loss, in nats.

        The focal loss is that of Lin et al. ("Focal Loss for Dense Object Detection", ICCV 2017, formula 4).
        """
        import tensorflow as tf

        classes, smoothing = outputs.shape[-1], config.label_smoothing
        shares = tf.one_hot(targets, classes) if targets.dtype.is_integer else targets
        weights = tf.linalg.matvec(shares, tf.constant(class_weights)) if class_weights else tf.ones_like(outputs[:, 0])
        wanted = shares * (1.0 - smoothing) + smoothing / classes
        if config.loss == "focal":
            logs = tf.nn.log_softmax(outputs)
            losses = -tf.reduce_sum(wanted * tf.pow(1.0 - tf.exp(logs), config.focal_gamma) * logs, axis=-1)
        else:
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, outputs)
        return losses * weights, weights

    def decode(self, outputs: Any, state: State) -> dict[str, Any]:
        """Returns `label`, its `score` (probability), and `scores` of all `classes`."""
        import tensorflow as tf

        scores = _scores(outputs, state)
        predicted = _predicted(scores, state)
        classes = tf.constant(state["classes"])
        return {
            "label": tf.gather(classes, predicted),
            "score": tf.gather(scores, predicted, batch_dims=1),
            "scores": scores,
            "classes": tf.tile(classes[tf.newaxis], [tf.shape(scores)[0], 1]),
        }

    def statistics(self, outputs: Any, targets: Any, state: State) -> dict[str, Any]:
        """Returns what `metrics.classification.outcomes` returns, and `scores` where they are few.

        Also what a temperature is chosen by, `logits`, or what scores would be without it, `confidence_before` and
        `log_likelihood_before`.
        """
        import tensorflow as tf

        scores = _scores(outputs, state)
        label = tf.cast(targets, tf.int64)
        of_label = tf.gather(scores, label, batch_dims=1)
        predicted = _predicted(scores, state)
        found = {
            "predicted": predicted,
            "label": label,
            "confidence": tf.gather(scores, predicted, batch_dims=1),
            "log_likelihood": bounded_log(of_label),
        }
        if state.get("temperature"):
            before = tf.nn.softmax(outputs)
            found["confidence_before"] = tf.gather(before, predicted, batch_dims=1)
            found["log_likelihood_before"] = bounded_log(tf.gather(before, label, batch_dims=1))
        elif "temperature" in state:
            found["logits"] = outputs
        count = outputs.shape[-1]
        if count > TOP:
            earlier = tf.range(count, dtype=tf.int64) < label[:, tf.newaxis]
            of_label = of_label[:, tf.newaxis]
            first = (scores > of_label) | ((scores == of_label) & earlier)
            found["rank"] = tf.reduce_sum(tf.cast(first, tf.int64), axis=-1)
        return {**found, "scores": scores} if count <= MOST_RANKED else found

    def calibrate(self, statistics: Mapping[str, "np.ndarray"], state: State) -> State:
        """Chooses the temperature, and then the threshold of the second of two classes, where the user wants them."""
        import numpy as np

        from tfpt.metrics.temperature import best_temperature
        from tfpt.metrics.thresholds import best_f1_threshold

        state = dict(state)
        if "temperature" in state:
            state["temperature"] = best_temperature(statistics["logits"], statistics["label"])
        if state.get("calibrated"):
            second = statistics["scores"][:, 1]
            if "temperature" in state:
                first, second = statistics["logits"].astype(np.float64).T / state["temperature"]
                second = 1.0 / (1.0 + np.exp(np.minimum(first - second, 700.0)))
            state["threshold"] = best_f1_threshold(second, statistics["label"] == 1)
        return state

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns the metrics; those of two classes are of the second one."""
        import numpy as np

        from tfpt.metrics.classification import metrics_of_outcomes
        from tfpt.metrics.multi_label import f1_metrics
        from tfpt.metrics.ranking import ranking_metrics

        found, classes = metrics_of_outcomes(statistics), len(state["classes"])
        label = statistics["label"]
        if classes == 2:
            second = f1_metrics(statistics["predicted"][:, np.newaxis] == 1, label[:, np.newaxis] == 1)
            found["f1"] = second["macro_f1"]
            return found | ranking_metrics(statistics["scores"][:, 1:], label[:, np.newaxis] == 1)
        if classes <= MOST_RANKED:
            found |= ranking_metrics(statistics["scores"], label[:, np.newaxis] == np.arange(classes))
        return found

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns the confusion matrix, precision, recall and F1 of each class, and the majority baseline."""
        from tfpt.metrics.classification import confusion_matrix, majority_baseline, per_class

        classes = state["classes"]
        confusion = confusion_matrix(statistics["predicted"], statistics["label"], classes=len(classes))
        found = {"classes": classes, "confusion": confusion.tolist(), "per_class": per_class(confusion, classes)}
        if "counts" in state:
            found["baseline"] = majority_baseline(state["counts"], statistics["label"])
            found["baseline_answer"] = "the most frequent class, always"
        if "confidence_before" in statistics:
            from tfpt.metrics.classification import calibration_error

            right = statistics["predicted"] == statistics["label"]
            found["temperature"] = state["temperature"]
            found["expected_calibration_error_before"] = calibration_error(statistics["confidence_before"], right)
            found["log_loss_before"] = -float(statistics["log_likelihood_before"].astype("float64").mean())
        return found | ({"threshold": state["threshold"]} if "threshold" in state else {})


def _scores(outputs: Any, state: State) -> Any:
    """Returns probabilities: those of the logits, divided by the temperature where one was chosen."""
    import tensorflow as tf

    temperature = state.get("temperature")
    return tf.nn.softmax(outputs / temperature if temperature else outputs)


def _predicted(scores: Any, state: State) -> Any:
    import tensorflow as tf

    if "threshold" in state:
        return tf.cast(scores[:, 1] >= state["threshold"], tf.int64)
    return tf.argmax(scores, axis=-1)
