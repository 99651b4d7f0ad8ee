"""What tasks with a label an example share: a linear layer on the pooled output; the kind of label does the rest."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tfpt.config import check, setting
from tfpt.errors import UserError
from tfpt.layers.dense_stack import dense_stack
from tfpt.tasks import Primary, State, Task, Tensors
from tfpt.tasks._checkpoint_head import head_setting
from tfpt.tasks._label_kind import LOWER_IS_BETTER, LabelKind
from tfpt.tasks._multi_label import MultiLabel
from tfpt.tasks._single_label import SingleLabel
from tfpt.tasks._values import Values
from tfpt.untuned import untuned

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.backbones import CheckpointHead
    from tfpt.data import DataSource, Info

KINDS: Mapping[str, LabelKind] = {kind.name: kind for kind in (SingleLabel(), MultiLabel(), Values())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Flags of the group `task` that every such task has."""

    head: str = head_setting()
    dropout: float = setting(0.0, "Share of the pooled features that is dropped before the head in training.")
    metric: str = setting(
        "auto",
        "Primary metric: what the best weights are chosen by. auto: accuracy, or macro_f1 when the largest class is over 5 times the "
        "smallest; average_precision (mAP) for several classes an example; r2 for numbers.",
    )

    def __post_init__(self) -> None:
        check(0 <= self.dropout < 1, f"dropout: {self.dropout} is not at least 0 and below 1")


class Labelled(Task):
    """A label an example, of one of the kinds that the task allows."""

    kinds: ClassVar[tuple[str, ...]]
    """The kinds of label that the task can learn; the first of them that the data has is what auto means."""
    kept_answers = ("scores", "values")

    def adapt(self, source: "DataSource", train: "np.ndarray") -> State:
        """Finds out what the labels are, and learns their names, counts, mean or spread."""
        info = source.info()
        kind = self._kind(info)
        values = _training_values(source, train, kind.feature) if kind.feature in info.features else train[:0]
        state = {"labels": kind.name, **kind.adapt(info, values, self.config)}
        if self.config.loss not in ("auto", *kind.losses_by_name):
            raise UserError(
                f"--task.loss={self.config.loss} does not fit these labels; {', '.join(kind.losses_by_name)} do."
            )
        names = kind.metric_names(state)
        metric = kind.primary(state) if self.config.metric == "auto" else self.config.metric
        if metric not in names:
            raise UserError(f"--task.metric={metric} is not a metric of these labels; there are {', '.join(names)}.")
        return {**state, "metric": metric}

    def batch(self, features: Tensors, frame: Tensors, state: State, training: bool) -> dict[str, Any]:
        """Takes the picture or tokens as input and the label, where there is one, as target."""
        kind = kind_of(state)
        made = {"inputs": features[self.modalities[0]], "weight": features.get("weight")}
        if kind.feature in features:
            made["targets"] = kind.targets(features[kind.feature], state, training)
        return made

    def build(self, trunks: Mapping[str, "keras.layers.Layer"], state: State) -> "keras.Model":
        """Puts dropout and a linear layer on the pooled output; the layer starts at zero, so all answers start equal."""
        import keras

        kind = kind_of(state)
        (trunk,) = trunks.values()
        inputs = trunk.host_input()
        pooled = trunk(inputs)["pooled"]
        if "head" in state:
            outputs = dense_stack(pooled, state["head"], dropout=self.config.dropout)
        else:
            dropped = keras.layers.Dropout(self.config.dropout, dtype="float32", name="head_dropout")(pooled)
            head = keras.layers.Dense(kind.width(state), kernel_initializer="zeros", dtype="float32", name="head")
            outputs = head(dropped)
        model = keras.Model(inputs, outputs, name=type(self).__name__.lower())
        # The loss is not told the state, and needs these.
        model.label_kind = kind.name
        model.class_weights = kind.class_weights(state) if self._balances() else ()
        return model

    def loss(self, model: "keras.Model", batch: Tensors, training: bool) -> tuple[Any, Any, Any]:
        """Returns `(loss_sum, weight_sum, outputs)`; classes are weighed in training only."""
        import tensorflow as tf

        outputs = model(batch["inputs"], training=training)
        kind = KINDS[model.label_kind]
        losses, weights = kind.losses(outputs, batch["targets"], self.config, model.class_weights if training else ())
        weight = tf.cast(batch["weight"], tf.float32)
        return tf.reduce_sum(losses * weight), tf.reduce_sum(weights * weight), outputs

    def decode(self, outputs: Any, frame: Tensors, state: State) -> dict[str, Any]:
        """Returns what the kind of label says: a class and all scores, chosen classes and all scores, or numbers."""
        return kind_of(state).decode(outputs, state)

    def statistics(self, outputs: Any, batch: Tensors, state: State) -> dict[str, Any]:
        """Returns the values of each example that the kind's metrics take."""
        return kind_of(state).statistics(outputs, batch["targets"], state)

    def calibrates(self, state: State) -> bool:
        """Tells whether thresholds or a temperature are chosen, rather than given or not there."""
        return bool(state.get("calibrated")) or "temperature" in state

    def calibrate(self, statistics: Mapping[str, "np.ndarray"], state: State) -> State:
        """Chooses a temperature and thresholds, where there are any to choose."""
        return kind_of(state).calibrate(statistics, state)

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns the kind's metrics."""
        return kind_of(state).metrics(statistics, state)

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns the kind's tables, and what a constant answer would reach."""
        return kind_of(state).details(statistics, state)

    def primary_of(self, state: State) -> Primary:
        """Returns what was chosen when the data was looked at."""
        name = state.get("metric", self.primary.name)
        return Primary(name, higher_is_better=name not in LOWER_IS_BETTER)

    def notes(self, state: State) -> Sequence[str]:
        """Returns sentences about the labels."""
        return kind_of(state).notes(state, self.config)

    def metric_names(self) -> Sequence[str]:
        """Returns the names of all metrics of all kinds."""
        return tuple(dict.fromkeys(name for kind in self.kinds for name in KINDS[kind].possible_metrics))

    def metric_names_of(self, state: State) -> Sequence[str]:
        """Returns the names of what `metrics` returns."""
        return kind_of(state).metric_names(state)

    def take_head(self, head: "CheckpointHead", state: State | None = None) -> State:
        """Takes over the classes of a classifier, or the numbers of a regression as they are."""
        import numpy as np

        from tfpt.data import Info

        kind = KINDS[{"regression": "values"}.get(head.problem, head.problem)]
        if head.endpoint != "pooled" or kind.name not in self.kinds:
            gives = _WORDS[kind.name] if head.endpoint == "pooled" else "a class for each token"
            raise UserError(
                f"--task.head=checkpoint: the checkpoint's head gives {gives}; choose the task that learns that."
            )
        if state is None:
            nothing = np.zeros((0, len(head.classes)) if kind.name != "single" else 0, np.int64)
            classes = () if isinstance(kind, Values) else head.classes
            state = {"labels": kind.name, **kind.adapt(Info(features={}, classes=classes), nothing, self.config)}
            state["metric"] = kind.primary(state)
        if kind_of(state) is not kind:
            raise UserError(
                f"--task.head=checkpoint: the checkpoint's head gives {_WORDS[kind.name]}, and the labels of --data are "
                f"{_WORDS[kind_of(state).name]}."
            )
        if isinstance(kind, Values):
            state = {**state, "mean": [0.0] * len(head.classes), "spread": [1.0] * len(head.classes)}
        return {**state, "head": head.plan()}

    def _balances(self) -> bool:
        return getattr(self.config, "class_weights", "none") == "balanced"

    def _kind(self, info: "Info") -> LabelKind:
        """Returns the kind that the user names, or else the first that the data has."""
        asked = getattr(self.config, "labels", "auto")
        allowed = [KINDS[name] for name in (self.kinds if asked == "auto" else (asked,))]
        kind = next((kind for kind in allowed if kind.feature in info.features), allowed[0])
        labelled = [*_label_features(info), *(["tags"] if "tags" in info.features else [])]
        if kind.feature in info.features or (kind.name == "single" and not labelled):
            return kind
        task = type(self).__module__.rpartition(".")[2]
        flag = f"--task={task}" if asked == "auto" else f"--task.labels={asked}"
        raise UserError(
            f"{flag} needs {_WORDS[kind.name]}, and the labels of --data are {_WORDS[_label_features(info)[0]]}; {_WAYS_OUT[kind.name]}."
            if _label_features(info)
            else f"{flag} needs {_WORDS[kind.name]}, and --data has only {', '.join(info.features)}; name the column with --data.label=COLUMN"
            f"{', or write --task=token_classification, which learns tags' if 'tags' in labelled else ''}."
        )


_WORDS = {"single": "one class an example", "multi": "any number of classes an example", "values": "numbers to predict"}
_WAYS_OUT = {
    "single": "numbers are what image_regression and text_classification learn, and --data.label_type=class takes them as classes",
    "multi": "--data.label_type=multi reads several classes from one cell",
    "values": "--data.label_type=number takes labels as numbers",
}


def kind_of(state: State) -> LabelKind:
    """Returns the kind of label that a state is about; models of 0.1.0 do not say it, and had one class an example."""
    return KINDS[state.get("labels", "single")]


def _label_features(info: "Info") -> list[str]:
    return [kind.name for kind in KINDS.values() if kind.feature in info.features]


def _training_values(source: "DataSource", train: "np.ndarray", feature: str) -> "np.ndarray":
    """Returns a feature of the training examples, `[examples, ...]`; those that cannot be read are left out."""
    import numpy as np
    import tensorflow as tf

    labels = source.index().labels
    if feature == "label" and labels is not None:
        return labels[train]
    # What else an example holds, such as a picture, is not read: TensorFlow leaves out what nobody asks for.
    values = tf.data.Dataset.from_tensor_slices(train).map(lambda k: source.example(k)[feature]).ignore_errors()
    return np.concatenate([part.numpy() for part in untuned(values.batch(4096))])
