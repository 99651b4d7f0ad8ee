"""A batch operation outside tfpt: each example is mixed with its neighbour, by a share of its own."""

import dataclasses

from tfpt.augment import Op


@dataclasses.dataclass(frozen=True)
class ToyMix(Op):
    most: float = 0.5

    def batch(self, inputs, targets, seeds):
        import tensorflow as tf

        share = tf.map_fn(lambda s: tf.random.stateless_uniform([], s, maxval=self.most), seeds, tf.float32)
        pixels = tf.cast(inputs, tf.float32)
        wide = tf.reshape(share, [-1, 1, 1, 1])
        labels = tf.one_hot(targets, 3) if targets.dtype.is_integer else targets
        mixed = labels * (1 - share[:, None]) + tf.roll(labels, 1, 0) * share[:, None]
        return pixels * (1 - wide) + tf.roll(pixels, 1, 0) * wide, mixed
