"""An example operation outside tfpt that changes pixels but no geometry, so it names nothing that it moves."""

import dataclasses

from tfpt.augment import Op


@dataclasses.dataclass(frozen=True)
class ToyShade(Op):
    def example(self, features, seed):
        import tensorflow as tf

        shade = tf.random.stateless_uniform([], seed, maxval=100, dtype=tf.int32)
        return {**features, "image": features["image"] // 3 + tf.cast(shade, tf.uint8)}
