"""What is learned on top of a backbone, one file each. This file holds the signature every task has."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfpt.backbones import CheckpointHead
    from tfpt.data import DataSource
    from tfpt.preprocessors import Preprocessor

Tensors = Mapping[str, Any]
"""A dictionary of tensors by name."""

State = Mapping[str, Any]
"""What a task learned from the data before training (class names, vocabularies): plain JSON values."""


@dataclasses.dataclass(frozen=True)
class Primary:
    """The metric that early stopping, the best checkpoint and model choice go by."""

    name: str
    higher_is_better: bool = True


class Task:
    """What is learned on top of one or several trunks.

    A task must define `batch`, `build`, `decode` and `primary`; a classifier overrides nothing else but `losses`,
    `statistics` and `metrics`. Generation, contrastive learning, detection and momentum teachers override more.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `task`."""

    primary: ClassVar[Primary]
    endpoints: ClassVar[tuple[str, ...]] = ("pooled",)
    """The trunk outputs that `build` reads; a frozen trunk's are computed once and cached."""
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    """The kinds of trunk that the task can stand on."""
    proportions: ClassVar[tuple[str, ...]] = ()
    """Metrics that are a share of examples; their intervals are exact ones for proportions."""
    kept_answers: ClassVar[tuple[str, ...]] = ()
    """Those of `decode`'s values that are kept for every scored example, where there are such: what predictions.csv and
    the report show."""
    default_augment: ClassVar[str] = "none"
    """What `--input.augment=auto` means."""
    caches_features: ClassVar[bool] = True
    """Whether a frozen trunk's endpoints may be computed once; false where `build` calls a trunk on anything but the
    task's inputs."""

    def __init__(self, argument: str = "", config: Any = None) -> None:
        self.argument = argument
        self.config: Any = config if config is not None else self.Config()

    # What every task defines.

    def batch(self, features: Tensors, frame: Tensors, state: State, training: bool) -> dict[str, Any]:
        """Makes `{"inputs", "targets", "weight"}` of a batch of prepared examples; runs in the input pipeline.

        Args:
            features: what the source and the preprocessors' host halves gave, `[batch, ...]` each; `weight` `[batch]`
                is 0 for fillers and for examples that could not be decoded. With `--input.views=n` an augmented
                feature is `[batch, n, ...]`.
            frame: what happened to coordinates, `[batch, ...]` each.
            state: what `adapt` returned.
            training: whether the batch is trained on.
        """
        raise NotImplementedError

    def build(self, trunks: Mapping[str, "keras.layers.Layer"], state: State) -> "keras.Model":
        """Builds the model on the trunks; all variables of the task live in it, a momentum teacher included.

        Args:
            trunks: layers by name (`trunk` where there is one). Calling one on its input (`trunk.host_input()` makes a
                symbolic one) returns a dictionary with the task's `endpoints`.
            state: what `adapt` returned.
        """
        raise NotImplementedError

    def decode(self, outputs: Any, frame: Tensors, state: State) -> dict[str, Any]:
        """Turns model outputs into what a client reads, with TensorFlow ops: it is part of the served graph."""
        raise NotImplementedError

    # What has a default.

    def adapt_preprocessor(self, preprocessor: "Preprocessor") -> "Preprocessor":
        """Returns the preprocessor as the task needs it: one that tells where in the text each token is, for one."""
        return preprocessor

    def primary_of(self, state: State) -> Primary:
        """Returns the metric that everything goes by, where it depends on the data."""
        return self.primary

    def trunk_inputs(self, inputs: Any, names: Sequence[str]) -> dict[str, Any]:
        """Returns what each trunk is called on, by its name: the inputs themselves for one trunk, else a dictionary's
        entries. A task whose model calls its trunk on anything else overrides it, or sets `caches_features` to false."""
        return {names[0]: inputs} if len(names) == 1 else {name: inputs[name] for name in names}

    def adapt(self, source: "DataSource", train: "np.ndarray") -> State:
        """Learns class names, vocabularies and the like.

        Args:
            source: the data.
            train: `[examples]`, int64: indices of the training examples.
        """
        return {}

    def take_head(self, head: "CheckpointHead", state: State | None = None) -> State:
        """Returns the state of a task that goes on with a head which came with the backbone's weights.

        `build` then makes its layers with `tfpt.layers.dense_stack`, and its arrays are loaded afterwards.

        Args:
            head: of the checkpoint.
            state: what `adapt` returned; None where there is no data.

        Raises:
            UserError: the task cannot take it over.
        """
        raise UserError("--task.head=checkpoint: this task only makes new heads; leave it out.")

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Returns the loss of each example, `[batch]`, float32; used by the default `loss`."""
        raise NotImplementedError

    def loss(self, model: "keras.Model", batch: Tensors, training: bool) -> tuple[Any, Any, Any]:
        """Returns `(loss_sum, weight_sum, outputs)` of a batch; sums, so that replicas and accumulation add up."""
        import tensorflow as tf

        outputs = model(batch["inputs"], training=training)
        weight = tf.cast(batch["weight"], tf.float32)
        losses = tf.cast(self.losses(outputs, batch["targets"]), tf.float32)
        return tf.reduce_sum(losses * weight), tf.reduce_sum(weight), outputs

    def after_update(self, model: "keras.Model", step: Any) -> None:
        """Runs in the graph after each optimizer update: momentum teachers, queues."""

    def predict(self, model: "keras.Model", inputs: Any) -> Any:
        """Returns the model's outputs for inference; generation overrides it."""
        return model(inputs, training=False)

    def statistics(self, outputs: Any, batch: Tensors, state: State) -> dict[str, Any]:
        """Returns small per-example values, `[batch, ...]` each, that metrics and intervals are computed from.

        Args:
            outputs: of the model.
            batch: what `batch` made, and `frame`.
            state: what `adapt` returned.
        """
        return {}

    def finish_statistics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> Mapping[str, "np.ndarray"]:
        """Returns what `calibrate`, `metrics` and `details` read, of the statistics of all examples.

        It runs once, outside the graph: for what takes Python and would take long at each sample of an interval, such as
        comparing texts.
        """
        return statistics

    def calibrates(self, state: State) -> bool:
        """Tells whether anything is chosen after training, on the validation split: thresholds, a temperature."""
        return False

    def calibrate(self, statistics: Mapping[str, "np.ndarray"], state: State) -> State:
        """Returns the state with what is chosen on the validation split, where `calibrates` says that something is."""
        return state

    def metrics(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, float]:
        """Returns metric values by name, from the statistics of all examples, each exactly once.

        `loss` is added by the caller. The dictionary holds at least `primary.name`.
        """
        return {}

    def details(self, statistics: Mapping[str, "np.ndarray"], state: State) -> dict[str, Any]:
        """Returns what metrics.json holds besides numbers with intervals: a confusion matrix, for one."""
        return {}

    def embedding(self, trunk_outputs: Tensors) -> Any:
        """Returns the `[batch, width]` embedding that the bundle's `embedding` signature answers with."""
        return trunk_outputs[self.endpoints[0]]

    def finish(self, model: "keras.Model", source: "DataSource") -> None:
        """Runs once after training: an item index, for one."""

    def metric_names(self) -> Sequence[str]:
        """Returns the names of all metrics that the task may have."""
        return (self.primary.name,)

    def metric_names_of(self, state: State) -> Sequence[str]:
        """Returns the names of what `metrics` returns, where they depend on the data; `--export.require` may use them."""
        return self.metric_names()

    def notes(self, state: State) -> Sequence[str]:
        """Returns sentences for the user about what `adapt` found: classes of very different size, for one."""
        return ()
