"""Encoded image files to RGB pixels with TensorFlow ops, as Pillow's `convert("RGB")` gives them."""

import functools
from typing import TYPE_CHECKING, Any

from tfpt.layers.orientation import is_jpeg_file, is_webp_file
from tfpt.layers.rare_branch import rare_branch

if TYPE_CHECKING:
    import tensorflow as tf


def decode_rgb(encoded: "tf.Tensor") -> "tf.Tensor":
    """Decodes JPEG, PNG, GIF (its first picture), BMP and WebP; grey, palette, alpha and CMYK become RGB.

    Alpha is dropped, not composited; what a GIF leaves transparent is black. 16-bit samples keep their upper 8 bits; `decode_window` keeps all.
    EXIF orientation is not applied here. Not supported, with an error: an animated WebP without alpha, RLE in BMP.

    Args:
        encoded: scalar string tensor, a whole file.

    Returns:
        `[height, width, 3]` uint8.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, on a file that cannot be decoded.
    """
    import tensorflow as tf

    image = rare_branch(~is_jpeg_file(encoded), _decode_other, _decode_jpeg, encoded)
    return tf.ensure_shape(image, [None, None, 3])


def decode_reduced(encoded: "tf.Tensor", side: int) -> tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]:
    """Decodes as `decode_rgb`, but a JPEG that will be far smaller at a half, a quarter or an eighth of its size.

    The inverse transform of each block of 8 x 8 then makes fewer pixels, as in libjpeg's `scale_denom`: a photo of 12 megapixels
    takes a third of the time. It still has twice as many pixels on its shorter side as will be needed, which the last,
    antialiased step makes of it.

    Args:
        encoded: scalar string tensor, a whole file.
        side: pixels that its shorter side will have.

    Returns:
        `[height, width, 3]` uint8; by how much it was reduced, scalar int32: 1, 2, 4 or 8; height and width before that,
        `[2]` int32. A point (y, x) of the picture lies at (y, x) / reduction.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, on a file that cannot be decoded.
    """
    import tensorflow as tf

    def other(encoded: Any) -> Any:
        image = _decode_other(encoded)
        return image, tf.constant(1), tf.shape(image)[:2]

    def jpeg(encoded: Any) -> Any:
        size = tf.image.extract_jpeg_shape(encoded)[:2]
        most = tf.reduce_min(size) // (2 * side)
        image = rare_branch(
            most > 1,
            lambda encoded: tf.case(
                [(most >= ratio, functools.partial(_decode_jpeg, encoded, ratio)) for ratio in (8, 4)],
                default=lambda: _decode_jpeg(encoded, 2),
            ),
            _decode_jpeg,
            encoded,
        )
        reduction = tf.where(most >= 8, 8, tf.where(most >= 4, 4, tf.where(most >= 2, 2, 1)))
        return image, reduction, size

    image, reduction, size = rare_branch(~is_jpeg_file(encoded), other, jpeg, encoded)
    return tf.ensure_shape(image, [None, None, 3]), reduction, tf.ensure_shape(size, [2])


def is_deep_png(encoded: "tf.Tensor") -> "tf.Tensor":
    """Returns whether a file is a PNG with 16 bits a sample; scalar string to scalar bool."""
    import tensorflow as tf

    # The header chunk comes first: signature 8, length 4, `IHDR` 4, width 4, height 4, then the bits a sample.
    return (tf.strings.substr(encoded, 0, 4) == b"\x89PNG") & (_integer(encoded, 24, tf.uint8) == 16)


def decode_window(encoded: "tf.Tensor", low: float, high: float) -> "tf.Tensor":
    """Decodes as `decode_rgb`, but keeps all bits of a 16-bit PNG: its samples from `low` to `high` become 0 to 255.

    Args:
        encoded: scalar string tensor, a whole file.
        low: the sample that becomes 0, as lower ones do.
        high: the sample that becomes 255, as higher ones do.

    Returns:
        `[height, width, 3]` float32; whole numbers where the file has 8 bits a sample.
    """
    import tensorflow as tf

    def windowed(encoded: Any) -> Any:
        samples = tf.cast(tf.io.decode_png(encoded, channels=3, dtype=tf.uint16), tf.float32)
        return tf.clip_by_value((samples - low) * (255 / (high - low)), 0.0, 255.0)

    return tf.ensure_shape(
        rare_branch(is_deep_png(encoded), windowed, lambda encoded: tf.cast(decode_rgb(encoded), tf.float32), encoded),
        [None, None, 3],
    )


def _decode_jpeg(encoded: Any, ratio: int = 1) -> Any:
    import tensorflow as tf

    # TensorFlow's default is the fast DCT, up to 4 levels off; the accurate one costs 4 % and equals Pillow.
    return tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _decode_other(encoded: Any) -> Any:
    import tensorflow as tf

    has_palette = (tf.strings.substr(encoded, 0, 2) == b"BM") & (_integer(encoded, 28, tf.uint16) <= 8)
    return tf.case(
        [(is_webp_file(encoded), lambda: _decode_webp(encoded)), (has_palette, lambda: _decode_palette_bmp(encoded))],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def _decode_webp(encoded: Any) -> Any:
    """Decodes with the file's own number of channels: TensorFlow refuses channels=3 where there is alpha."""
    import tensorflow as tf

    # Byte 20 of an extended file holds flags; 2 says animation. For one without alpha channels=0 writes outside its
    # memory (TensorFlow 2.21); channels=4 refuses it.
    is_animated = (tf.strings.substr(encoded, 12, 4) == b"VP8X") & (_integer(encoded, 20, tf.uint8) & 2 > 0)
    frames = tf.cond(
        is_animated,
        lambda: tf.io.decode_webp(encoded, channels=4),
        lambda: tf.io.decode_webp(encoded, channels=0),
    )
    return frames[0, :, :, :3]


def _decode_palette_bmp(encoded: Any) -> Any:
    """Decodes a BMP of 1, 4 or 8 bits a pixel: TensorFlow takes the palette's indices for grey values, or fails."""
    import tensorflow as tf

    pixels, header = _integer(encoded, 10, tf.int32), _integer(encoded, 14, tf.int32)
    width, height = _integer(encoded, 18, tf.int32), _integer(encoded, 22, tf.int32)
    bits, compression = _integer(encoded, 28, tf.uint16), _integer(encoded, 30, tf.int32)
    rows = tf.abs(height)
    stride = (width * bits + 31) // 32 * 4
    # A place outside of the file fails when it is read. An assertion would do, but it is stateful: no iterator over a
    # pipeline that holds one can be saved.
    plain = (compression == 0) & (header >= 40) & (width > 0) & (rows > 0)
    data = tf.strings.substr(encoded, tf.where(plain, pixels, 2**31 - 1), stride * rows)
    data = tf.reshape(tf.io.decode_raw(data, tf.uint8), [rows, stride])
    shifts = tf.range(8 - bits, -1, -bits)  # the leftmost pixel stands in the highest bits
    indices = tf.bitwise.right_shift(tf.cast(data, tf.int32)[:, :, None], shifts) & (2**bits - 1)
    indices = tf.reshape(indices, [rows, -1])[:: tf.where(height > 0, -1, 1), :width]
    colours = tf.io.decode_raw(
        tf.strings.substr(encoded, 14 + header, pixels - 14 - header), tf.uint8, fixed_length=256 * 4
    )
    return tf.gather(tf.reshape(colours, [256, 4])[:, 2::-1], indices)  # stored blue, green, red, unused


def _integer(encoded: Any, at: int, dtype: Any) -> Any:
    """Returns the little-endian integer at a byte position, 0 behind the file's end, as int32."""
    import tensorflow as tf

    text = tf.strings.substr(encoded, tf.minimum(at, tf.strings.length(encoded)), dtype.size)
    return tf.cast(tf.io.decode_raw(text, dtype, fixed_length=dtype.size)[0], tf.int32)
