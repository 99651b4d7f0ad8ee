"""A data source outside tfpt: `toys.coloured_pairs:24` is 24 pairs of noisy pictures, the two of a pair in one colour."""

import functools
import hashlib
import io

from tfpt.data import DataSource, Index, Info


class ColouredPairs(DataSource):
    @functools.cached_property
    def _pairs(self):
        import numpy as np
        from PIL import Image

        def file(pixels):
            stream = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
            return stream.getvalue()

        random = np.random.default_rng(3)
        pairs = []
        for _ in range(int(self.argument)):
            colour = random.integers(0, 256, 3)
            pairs.append(tuple(file(colour + random.normal(0, 15, (16, 16, 3))) for _ in range(2)))
        return pairs

    def info(self):
        return Info(features={"left": "image", "right": "image"}, size=len(self._pairs), origin="random colours")

    def index(self):
        count = len(self._pairs)
        return Index(names=[f"pair-{k}" for k in range(count)], labels=None, splits=[""] * count)

    def digests(self):
        return [hashlib.sha256(left + right).digest() for left, right in self._pairs]

    def example(self, k):
        import tensorflow as tf

        left, right = zip(*self._pairs, strict=True)
        with tf.init_scope():
            left, right = tf.constant(left), tf.constant(right)
        return {"left": tf.gather(left, k), "right": tf.gather(right, k)}
