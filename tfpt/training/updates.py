"""From gradients to an update: clipping, layer-wise learning rates with matching decay, no decay on biases and norms.

Keras multiplies learning rates per variable nowhere, and a multiplier inside `update_step` leaves AdamW's decoupled decay
at the global rate. So there is one Keras optimizer for each multiplier, each with its own scaled schedule.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfpt.config import Optim
from tfpt.errors import UserError
from tfpt.training.adamw import LARGE, STEPS_WORTH_COMPILING, WORTH_COMPILING, AdamW
from tfpt.training.schedules import Schedule, schedule_of

LOSS_SCALE_START = 2.0**15
"""Start of float16's loss scale; Micikevicius et al., "Mixed Precision Training", ICLR 2018."""
LOSS_SCALE_GROWTH_STEPS = 2000


@dataclasses.dataclass(frozen=True)
class RateGroup:
    """Variables that share a factor on the learning rate."""

    multiplier: float
    variables: tuple[keras.Variable, ...]
    by_row: tuple[keras.Variable, ...] = ()
    """Those of which an update moves only rows whose gradient is not zero."""


class Updates:
    """Applies gradients to rate groups. A group with multiplier 0 is left bit-equal.

    Args:
        groups: all variables that train.
        options: the optimizer's settings.
        learning_rate: peak of the schedule.
        steps: updates in the stage.
        loss_scaling: scale the loss dynamically, as float16 needs.
        schedule: another schedule than the options'.
    """

    def __init__(
        self,
        groups: Sequence[RateGroup],
        options: Optim,
        *,
        learning_rate: float,
        steps: int,
        loss_scaling: bool = False,
        schedule: Schedule | None = None,
    ) -> None:
        self.clip_norm = options.clip_norm
        self.groups = [group for group in groups if group.multiplier > 0 and group.variables]
        if not self.groups:
            raise UserError(
                "Nothing would train: --optim.head_multiplier=0 leaves the head as it is, and --train.unfreeze, "
                "--optim.layer_decay or --train.batch_norm leave nothing of the backbone."
            )
        if options.lazy_embeddings and isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
            raise UserError(
                "--optim.lazy_embeddings: a TPU compiles updates of one shape, and how many rows a batch uses differs; leave it out."
            )
        self.schedule = schedule or schedule_of(options, learning_rate=learning_rate, steps=steps)
        self.optimizers = []
        compiled = _is_worth_compiling([v for group in self.groups for v in group.variables], steps=steps)
        for group in self.groups:
            rate = self.schedule.times(group.multiplier)
            optimizer = (
                AdamW(learning_rate=rate, weight_decay=options.weight_decay, by_row=group.by_row, compiled=compiled)
                if options.name == "adamw"
                else _OPTIMIZERS[options.name](options, rate)
            )
            optimizer.exclude_from_weight_decay(var_list=[v for v in group.variables if len(v.shape) <= 1])
            optimizer.build(list(group.variables))
            optimizer._all_reduce_sum_gradients = _as_they_are
            self.optimizers.append(optimizer)
        self.scale = tf.Variable(LOSS_SCALE_START if loss_scaling else 1.0, trainable=False, name="loss_scale")
        self.good_steps = tf.Variable(0, trainable=False, name="good_steps")
        self.loss_scaling = loss_scaling

    @property
    def trained(self) -> list[keras.Variable]:
        """The variables that gradients are wanted for, in the order `apply` takes them."""
        return [variable for group in self.groups for variable in group.variables]

    @property
    def state(self) -> list[tf.Variable]:
        """Everything that must be saved to go on exactly."""
        return [v.value for optimizer in self.optimizers for v in optimizer.variables] + [self.scale, self.good_steps]

    def slow_down(self, factor: float) -> None:
        """Multiplies all learning rates of what is compiled from now on."""
        self.schedule = self.schedule.times(factor)
        for optimizer, group in zip(self.optimizers, self.groups, strict=True):
            optimizer.learning_rate = self.schedule.times(group.multiplier)

    def apply(self, gradients: Sequence[Any], *, weight_sum: Any = 1.0) -> tf.Tensor:
        """Updates the variables; returns whether it did, which only loss scaling may refuse.

        Args:
            gradients: of the loss times `scale`, one for each of `trained`, summed over replicas. An IndexedSlices
                becomes dense first, which sums duplicate rows before the norm is taken.
            weight_sum: of the examples that the loss was summed over, scalar.
        """
        dense = [tf.convert_to_tensor(g) for g in gradients]
        factor = 1.0 / (tf.maximum(weight_sum, 1e-12) * self.scale)
        norm = tf.linalg.global_norm(dense) * factor
        if self.clip_norm:
            factor *= self.clip_norm / tf.maximum(norm, self.clip_norm)
        if not self.loss_scaling:
            self._apply(dense, factor)
            return tf.constant(True)
        finite = tf.math.is_finite(norm)
        tf.cond(finite, lambda: self._apply(dense, factor), lambda: None)
        grow = finite & (self.good_steps + 1 >= LOSS_SCALE_GROWTH_STEPS)
        self.scale.assign(
            tf.where(finite, tf.where(grow, self.scale * 2.0, self.scale), tf.maximum(1.0, self.scale / 2.0))
        )
        self.good_steps.assign(tf.where(finite & ~grow, self.good_steps + 1, 0))
        return finite

    def _apply(self, dense: Sequence[tf.Tensor], factor: tf.Tensor) -> None:
        start = 0
        for optimizer, group in zip(self.optimizers, self.groups, strict=True):
            end = start + len(group.variables)
            if isinstance(optimizer, AdamW):  # each pass over all gradients takes as long as a layer
                optimizer.apply_times(factor, dense[start:end], group.variables)
            else:
                optimizer.apply([g * factor for g in dense[start:end]], list(group.variables))
            start = end


def _as_they_are(gradients: Any) -> Any:
    """Gradients come summed over replicas, before they are clipped; Keras would sum them once more."""
    return gradients


def _is_worth_compiling(variables: Sequence[keras.Variable], *, steps: int) -> bool:
    """Tells whether a step of AdamW shall be compiled: on one CPU, for weights that its caches do not hold."""
    sizes = [math.prod(v.shape) for v in variables]
    return (
        steps >= STEPS_WORTH_COMPILING
        and sum(size for size in sizes if size >= LARGE) >= WORTH_COMPILING
        and tf.distribute.get_strategy().num_replicas_in_sync == 1
        and not tf.config.list_physical_devices("GPU")
        and not tf.config.list_logical_devices("TPU")
    )


def _sgd(options: Optim, schedule: Schedule) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(
        learning_rate=schedule, momentum=options.momentum, weight_decay=options.weight_decay or None
    )


def _lion(options: Optim, schedule: Schedule) -> keras.optimizers.Optimizer:
    """Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023."""
    return keras.optimizers.Lion(learning_rate=schedule, weight_decay=options.weight_decay or None)


def _adafactor(options: Optim, schedule: Schedule) -> keras.optimizers.Optimizer:
    """Shazeer & Stern, "Adafactor", ICML 2018, with the schedule's rates instead of its own.

    Its steps are relative to a variable's root mean square, but never to less than `epsilon_2`: at the paper's 1e-3 a head
    that starts at zero would hardly move, and at 1 the rates mean what they mean for the other rules.
    """
    return keras.optimizers.Adafactor(
        learning_rate=schedule, weight_decay=options.weight_decay or None, relative_step=False, epsilon_2=1.0
    )


def _rmsprop(options: Optim, schedule: Schedule) -> keras.optimizers.Optimizer:
    """Tieleman & Hinton, "Lecture 6.5 - rmsprop", 2012."""
    return keras.optimizers.RMSprop(
        learning_rate=schedule, momentum=options.momentum, weight_decay=options.weight_decay or None
    )


_OPTIMIZERS: dict[str, Callable[[Optim, Schedule], keras.optimizers.Optimizer]] = {
    "sgd": _sgd,
    "lion": _lion,
    "adafactor": _adafactor,
    "rmsprop": _rmsprop,
}
