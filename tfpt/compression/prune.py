"""Gradual magnitude pruning: small weights become zero, a few more with each update, while the others learn to do without.

Zhu & Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017 (arXiv:1710.01878).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tfpt.compression import Compression, Options
from tfpt.compression._around import with_methods
from tfpt.config import Experiment
from tfpt.errors import UserError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfpt.compression._subject import Subject
    from tfpt.console import Console
    from tfpt.serving.servable import Servable
    from tfpt.training.setting import Setting

EPOCHS = 5
RATE_FACTOR = 0.2
"""Of the model's own learning rate: it is trained already."""
MASKS = 50
"""So often, at most, is it decided anew which weights are the small ones."""
NEVER = 10**9
"""Updates until the first evaluation but the last: the best weights are chosen from, and earlier ones are not sparse."""
LEAST_CHANNELS = 8
"""A convolution that reads fewer channels, as the first layer of a picture network does, stays whole: it is small, and all else
stands on it."""


class Prune(Compression):
    """A bundle in which a share of the weights is zero: `prune:0.5`. It zips to less; it is no faster in TensorFlow.

    Each kernel of a dense layer or a convolution in the backbone loses the same share, the weights nearest zero. Depthwise
    kernels, the first layer, biases, normalisation, embeddings and the head stay whole.
    """

    trains = True

    def __init__(self, argument: str = "", options: Options | None = None) -> None:
        super().__init__(argument or "0.5", options)
        try:
            self.sparsity = float(self.argument)
        except ValueError:
            self.sparsity = -1.0
        if not 0 < self.sparsity < 1:
            raise self.refuse("write the share of weights that become zero, above 0 and below 1, as in prune:0.5.")

    def experiment(self, subject: "Subject") -> Experiment:
        """Returns the settings of a short training of the whole model, from its own weights."""
        original = subject.experiment
        train = dataclasses.replace(
            original.train,
            init_from=str(subject.bundle.resolve()),
            head_epochs=0,
            head_solver="gradient",
            epochs=self.options.epochs or EPOCHS,
            unfreeze="all",
            lora_rank=0,
            ema=0.0,
            steps=0,
            patience=0,
            evaluate_every=NEVER,
            seeds=(),
        )
        rate = self.options.learning_rate or RATE_FACTOR * original.optim.learning_rate
        # How many updates there are must be known before the texts' lengths are.
        given = dataclasses.replace(original.input, tokens_per_batch=0)
        optim = dataclasses.replace(original.optim, learning_rate=rate)
        return dataclasses.replace(original, train=train, optim=optim, input=given)

    def adapt(self, setting: "Setting", subject: "Subject", *, console: "Console") -> "Setting":
        """Returns the same with a task that prunes after each update."""
        options, tokens = setting.experiment.train, setting.experiment.input.tokens_per_batch
        if tokens:
            raise self.refuse(
                f"leave --input.tokens_per_batch={tokens} out: batches are of --train.batch_size examples."
            )
        steps = options.epochs * -(-len(setting.splits.train) // options.batch_size)
        steps = min(steps, options.steps or steps)
        task = pruned_while_trained(
            setting.task, sparsity=self.sparsity, until=max(1, round(self.options.prune_until * steps))
        )
        return dataclasses.replace(setting, task=task)

    def details(self, smaller: "Servable") -> dict[str, Any]:
        """Returns how many weights there are, and the share of zeros."""
        return {"sparsity": sparsity_of(smaller)}


def pruned_while_trained(task: Any, *, sparsity: float, until: int) -> Any:
    """Returns a task that zeroes weights after each update.

    Args:
        task: what is learned.
        sparsity: the share of each kernel that is zero in the end.
        until: the update at which it is reached.
    """
    masks: dict[int, list[tuple[tf.Variable, tf.Variable]]] = {}
    every = max(1, until // MASKS)

    def after_update(model: "keras.Model", step: Any) -> None:
        import tensorflow as tf

        task.after_update(model, step)
        if id(model) not in masks:
            with tf.init_scope():  # of a run that goes on, what is zero stays zero
                found = [kernel.value for kernel in kernels(model)]
                masks[id(model)] = [
                    (v, tf.Variable(tf.cast(tf.not_equal(v, 0.0), v.dtype), trainable=False)) for v in found
                ]
        step = tf.cast(step, tf.int64)
        due = (step % every == 0) | (step >= until)
        share = cubic(step, sparsity=sparsity, until=until)

        def decide() -> None:
            for value, mask in masks[id(model)]:
                magnitudes = tf.abs(value * mask)
                mask.assign(tf.cast(magnitudes > quantile(magnitudes, share), mask.dtype))

        tf.cond(due & (step <= until), decide, lambda: None)
        for value, mask in masks[id(model)]:
            value.assign(value * mask)

    return with_methods(task, after_update=after_update)


def cubic(step: Any, *, sparsity: float, until: int) -> Any:
    """Returns the share of zeros after an update: formula 1 of Zhu & Gupta, which removes many at first and few at last."""
    import tensorflow as tf

    left = 1.0 - tf.minimum(1.0, tf.cast(step, tf.float32) / until)
    return sparsity * (1.0 - left**3)


def quantile(magnitudes: "tf.Tensor", share: Any) -> "tf.Tensor":
    """Returns the largest of so many of the smallest magnitudes, as a share of all; below all where it is none."""
    import tensorflow as tf

    ordered = tf.sort(tf.reshape(magnitudes, [-1]))
    count = tf.cast(tf.round(share * tf.cast(tf.size(ordered), tf.float32)), tf.int32)
    return tf.where(count > 0, ordered[tf.maximum(count - 1, 0)], tf.constant(-1.0, ordered.dtype))


def kernels(model: "keras.Model") -> Sequence["keras.Variable"]:
    """Returns the kernels of a model's trunks that are pruned.

    Raises:
        UserError: there are none.
    """
    import keras

    dense, convolutions = (keras.layers.Dense, keras.layers.EinsumDense), (keras.layers.Conv1D, keras.layers.Conv2D)
    found = [
        layer.kernel
        for trunk in _trunks(model)
        for layer in trunk._flatten_layers()
        if isinstance(layer, dense) or (isinstance(layer, convolutions) and layer.kernel.shape[-2] >= LEAST_CHANNELS)
    ]
    if not found:
        raise UserError(
            "--compress=prune: the backbone has no dense or convolution layer of Keras' that could be pruned."
        )
    return found


def sparsity_of(servable: "Servable") -> dict[str, float]:
    """Returns how many weights a loaded model has, and the share of zeros in them and in its kernels."""
    import numpy as np

    loaded = servable.outputs.loaded  # type: ignore[attr-defined]
    variables = [v.numpy() for v in loaded.variables if v.dtype.is_floating]
    matrices = [v for v in variables if v.ndim > 1]
    return {
        "weights": sum(v.size for v in variables),
        "zeros": float(sum(np.sum(v == 0) for v in variables) / sum(v.size for v in variables)),
        "zeros_in_kernels": float(sum(np.sum(v == 0) for v in matrices) / max(1, sum(v.size for v in matrices))),
    }


def _trunks(model: "keras.Model") -> Iterable[Any]:
    from tfpt.layers.trunk import Trunk

    return (layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, Trunk))
