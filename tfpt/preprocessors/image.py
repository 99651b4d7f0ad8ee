"""Encoded pictures to squares of pixels: decode, turn upright, resize, scale."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfpt.preprocessors import Preprocessor

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Image(Preprocessor):
    """Makes `[size, size, 3]` inputs of encoded images.

    Attributes:
        size: side of the square in pixels.
        resize: `stretch` (the whole picture, aspect ratio lost), `crop` (its largest centred square) or `pad` (the
            whole picture between black bars).
        scale: factor on each channel of the network's input.
        offset: added to each channel after the factor.
        bgr: whether the network wants blue first; scale and offset are then in that order, too.
        intensity: samples of a 16-bit PNG that become 0 and 255; None: it keeps the upper 8 bits of each.
        feature: what it reads from the raw example and writes to the prepared one.
    """

    size: int
    resize: str = "stretch"
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bgr: bool = False
    intensity: tuple[float, float] | None = None
    feature: str = "image"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: {self.size} is not at least 1")
        if self.resize not in ("stretch", "crop", "pad"):
            raise ValueError(f"resize: {self.resize} is not stretch, crop or pad")
        for name in ("scale", "offset"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3:
                raise ValueError(f"{name}: {values} is not three numbers, one a channel")
            object.__setattr__(self, name, values)
        if self.intensity is not None:
            low, high = map(float, self.intensity)
            if not low < high:
                raise ValueError(f"intensity: {low:g} is not below {high:g}")
            object.__setattr__(self, "intensity", (low, high))

    def host(self, raw: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Decodes one encoded image, a large JPEG at a fraction of its size, applies its EXIF orientation and resizes it.

        Args:
            raw: scalar string tensor, a whole JPEG, PNG, GIF, BMP or WebP file.

        Returns:
            Pixels and frame, as `host_pixels`.

        Raises:
            tf.errors.InvalidArgumentError: when it runs, on a file that cannot be decoded.
        """
        import tensorflow as tf

        from tfpt.layers.decoding import decode_reduced, decode_window
        from tfpt.layers.orientation import exif_orientation, orient

        orientation = exif_orientation(raw)
        if self.intensity:
            return self.host_pixels(orient(decode_window(raw, *self.intensity), orientation))
        image, reduction, size = decode_reduced(raw, self.size)
        pixels, frame = self.host_pixels(orient(image, orientation))
        size = tf.where(orientation >= 5, size[::-1], size)
        return pixels, {**frame, "scale": frame["scale"] / tf.cast(reduction, tf.float32), "size": size}

    def host_pixels(self, image: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Resizes one decoded image: bilinear with antialiasing, rounded to bytes.

        Args:
            image: `[height, width, 3]`, uint8 or float, 0 to 255.

        Returns:
            Pixels `[size, size, 3]` uint8, and the frame: a point (y, x) of the upright picture lies at
            `(y, x) * frame["scale"] + frame["offset"]` (`[2]` float32 each) of the result, in pixels, where pixel 0
            reaches from 0 to 1; `frame["size"]` is the picture's height and width, `[2]` int32.
        """
        import tensorflow as tf

        from tfpt.layers.resampling import resample

        size = tf.shape(image)[:2]
        shorter, longer = tf.reduce_min(size), tf.reduce_max(size)
        if self.resize == "crop":
            scale = tf.fill([2], tf.cast(self.size / shorter, tf.float32))
            corner = tf.cast((size - shorter) // 2, tf.float32)  # whole pixels, so that a crop alone blurs nothing
            offset = -corner * scale
        elif self.resize == "pad":
            scale = tf.fill([2], tf.cast(self.size / longer, tf.float32))
            offset = tf.floor((self.size - tf.cast(size, tf.float32) * scale) / 2)
        else:
            scale = tf.cast(self.size / size, tf.float32)
            offset = tf.zeros([2])
        pixels = resample(image, self.size, scale, offset)
        return tf.ensure_shape(pixels, [self.size, self.size, 3]), {"scale": scale, "offset": offset, "size": size}

    def host_pixels_batch(self, images: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """Runs `host_pixels` on each picture of a batch, `[batch, height, width, 3]`."""
        import tensorflow as tf

        shape, dtype = self.host_spec()
        frame = {name: tf.TensorSpec(s, d) for name, (s, d) in self.frame_spec().items()}
        return tf.map_fn(self.host_pixels, images, fn_output_signature=(tf.TensorSpec(shape, dtype), frame))

    def device(self) -> "keras.layers.Layer":
        """Returns the layer from `[batch, size, size, 3]` uint8 to what the network is fed, float32."""
        from tfpt.layers.pixel_scale import PixelScale

        return PixelScale(scale=self.scale, offset=self.offset, bgr=self.bgr)

    def host_spec(self) -> tuple[tuple[int | None, ...], str]:
        """Returns shape and dtype of the pixels."""
        return (self.size, self.size, 3), "uint8"

    def frame_spec(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Returns shape and dtype of the frame's values."""
        return {"scale": ((2,), "float32"), "offset": ((2,), "float32"), "size": ((2,), "int32")}

    def reading(self, feature: str) -> "Image":
        """Returns an equal preprocessor for another feature."""
        return dataclasses.replace(self, feature=feature)

    def sample(self) -> bytes:
        """Returns a grey PNG of the network's size."""
        import tensorflow as tf

        return tf.io.encode_png(tf.fill([self.size, self.size, 3], tf.constant(128, tf.uint8))).numpy()

    def host_settings(self) -> dict[str, Any]:
        """Returns size, resize, intensity and feature; scale, offset and channel order belong to the device half."""
        return {name: self.to_json()[name] for name in ("size", "resize", "intensity", "feature")}

    def to_json(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Image":
        """Makes an equal preprocessor from what `to_json` returned."""
        return cls(**values)
