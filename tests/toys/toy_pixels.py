"""A backbone outside tfpt: `tiny:conv` on pictures that are PNG files already, which is little to trace."""

import dataclasses

from tfpt.backbones.tiny import Tiny
from tfpt.preprocessors.image import Image


@dataclasses.dataclass(frozen=True)
class Corner(Image):
    def host(self, raw):
        import tensorflow as tf

        return tf.ensure_shape(tf.io.decode_png(raw, channels=3)[: self.size, : self.size], [self.size] * 2 + [3]), {}

    def frame_spec(self):
        return {}


class ToyPixels(Tiny):
    def preprocessor(self, options):
        return Corner(**dataclasses.asdict(super().preprocessor(options)))
