"""AdamW whose step goes through the memory as seldom as it can: weights of a language model do not fit into the caches."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

LARGE = 2**16
"""Elements from which on a variable is updated in the compiled step; below, compiling costs more than it saves."""
WORTH_COMPILING = 2**23
"""Elements of large variables from which on their step is compiled: together they are 8 times 32 MiB."""
STEPS_WORTH_COMPILING = 100
"""Compiling takes about a second, what it saves is some hundredths of a second a step."""


class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW, same rule, same variables (Loshchilov and Hutter, ICLR 2019), without its fifteen operations a variable.

    A variable's step is TensorFlow's fused kernel. Scaling, decay and step of large ones can be compiled into one loop, by XLA,
    which takes 29 ms instead of 42 for the 22 million weights of MiniLM-L6 on 2 cores.

    Args:
        compiled: compile the step of large variables; for one device.
        by_row: embedding tables of which only the rows whose gradient is not zero are moved and decayed, with their moments:
            LazyAdam, another algorithm.
        **options: Keras'.
    """

    def __init__(self, *, compiled: bool = False, by_row: Sequence[keras.Variable] = (), **options: Any) -> None:
        super().__init__(**options)
        self.compiled = compiled
        self._by_row = by_row
        self._factor: Any = None

    def apply_times(self, factor: Any, gradients: Sequence[Any], variables: Sequence[keras.Variable]) -> None:
        """Updates variables by gradients times a factor.

        Args:
            factor: scalar.
            gradients: dense, one for each variable.
            variables: what the optimizer was built with.
        """
        self._factor = factor
        self.apply(gradients, variables)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        """Updates the large variables by the compiled step; in place of Keras' method."""
        factor, values = self._factor, [variable.value for variable in trainable_variables]
        large = [
            k
            for k, value in enumerate(values)
            if self.compiled and value.shape.num_elements() >= LARGE and not self._is_by_row(value)
        ]
        step = tf.cast(self.iterations + 1, tf.float32)

        @tf.function(
            autograph=False, jit_compile=True
        )  # compiled once for each shape; all at once would hold all twice
        def update(held: list[Any], gradient: tf.Tensor, factor: Any, kept: Any, corrected: Any) -> None:
            for variable, value in zip(
                held, self._moved(held, gradient * factor, kept=kept, corrected=corrected), strict=True
            ):
                variable.assign(value)

        corrected = self._corrected(learning_rate, step)
        for k in large:
            kept = tf.convert_to_tensor(self._kept(values[k], learning_rate))
            update([values[k], *self._moments(values[k])], grads[k], factor, kept, corrected)
        rest = [k for k in range(len(values)) if k not in large]
        super()._backend_update_step(
            [grads[k] * factor for k in rest], [trainable_variables[k] for k in rest], learning_rate
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves a variable and its two moments.

        Args:
            gradient: of the variable, dense.
            variable: a tf.Variable, or a replica's part of one.
            learning_rate: of this step.
        """
        step = tf.cast(self.iterations + 1, tf.float32)
        if self._is_by_row(variable):
            self._move_rows(variable, gradient, learning_rate, self._corrected(learning_rate, step))
            return
        if self._use_weight_decay(variable):
            variable.assign_sub(variable * (learning_rate * self.weight_decay))
        moment, square = self._moments(variable)

        def typed(value: Any) -> tf.Tensor:
            return tf.cast(value, variable.dtype)

        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=moment.handle,
            v=square.handle,
            beta1_power=typed(self.beta_1**step),
            beta2_power=typed(self.beta_2**step),
            lr=typed(learning_rate),
            beta1=typed(self.beta_1),
            beta2=typed(self.beta_2),
            epsilon=typed(self.epsilon),
            grad=typed(gradient),
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        """Does nothing: a variable decays in its own step."""

    def _is_by_row(self, variable: Any) -> bool:
        return self._get_variable_index(variable) in {self._get_variable_index(table.value) for table in self._by_row}

    def _move_rows(self, table: Any, gradient: tf.Tensor, learning_rate: Any, corrected: Any) -> None:
        used = tf.where(tf.reduce_any(tf.not_equal(gradient, 0.0), axis=list(range(1, len(gradient.shape)))))[:, 0]
        held = [table, *self._moments(table)]
        rows = [tf.gather(variable, used) for variable in held]
        kept = self._kept(table, learning_rate)
        moved = self._moved(rows, tf.gather(gradient, used), kept=kept, corrected=corrected)
        for variable, value in zip(held, moved, strict=True):
            variable.scatter_update(tf.IndexedSlices(value, used))

    def _moved(self, held: Sequence[Any], gradient: tf.Tensor, *, kept: Any, corrected: Any) -> tuple[tf.Tensor, ...]:
        """Returns a variable and its two moments after a step, by the formulas that TensorFlow's kernel has."""
        value, moment, square = held
        moment = moment + (gradient - moment) * (1.0 - self.beta_1)
        square = square + (tf.square(gradient) - square) * (1.0 - self.beta_2)
        return value * kept - corrected * moment / (tf.sqrt(square) + self.epsilon), moment, square

    def _kept(self, variable: Any, learning_rate: Any) -> Any:
        return 1.0 - learning_rate * self.weight_decay if self._use_weight_decay(variable) else 1.0

    def _corrected(self, learning_rate: Any, step: tf.Tensor) -> tf.Tensor:
        return learning_rate * tf.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)

    def _moments(self, variable: Any) -> tuple[Any, Any]:
        index = self._get_variable_index(variable)
        return self._momentums[index].value, self._velocities[index].value
