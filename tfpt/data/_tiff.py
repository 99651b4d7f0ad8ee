"""TIFF files to PNG with the same samples: no TensorFlow op decodes TIFF, so they are turned where they are read.

Everything behind the source, the served model too, then sees PNG. Needs the extra `[tiff]`: tifffile, and imagecodecs for
compressed files.

Source: TIFF 6.0 (Adobe, 1992), sections 8 (Orientation) and 18 (ExtraSamples).
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.weights.home import home

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

EXTENSIONS = frozenset(b"tif tiff".split())
NOTE = (
    "TIFF files, of several pages the first, are turned into PNG with the same samples when they are read (kept in the folder tiff of "
    "TFPT_HOME); the exported model takes PNG, not TIFF."
)
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ALPHA = (1, 2)


def is_installed() -> bool:
    """Returns whether TIFF can be read."""
    return all(importlib.util.find_spec(name) for name in ("tifffile", "imagecodecs"))


def is_tiff_name(path: bytes) -> bool:
    """Returns whether a file is called as TIFF files are."""
    return path.lower().rpartition(b".")[2] in EXTENSIONS


def check_readable(path: bytes, *, where: str) -> None:
    """Raises a UserError that says why, if TIFF cannot be read here, or this file is of a kind that is not read.

    Args:
        path: the first TIFF file; one that is damaged or gone passes, since examples that do not decode are counted later.
        where: the beginning of the sentence: flag and value.
    """
    if not is_installed():
        raise UserError(f"{where} has TIFF pictures, which need tifffile; run: pip install 'tfpt[tiff]'.")
    with contextlib.suppress(OSError):
        content = Path(os.fsdecode(path)).read_bytes()
        try:
            as_png(content)
        except _KindError as error:
            raise UserError(f"{where}: {os.fsdecode(path)} {error}; convert such files to PNG.") from error
        except Exception:  # tifffile raises many kinds of errors for damaged files
            return


def read_picture(path: "tf.Tensor") -> "tf.Tensor":
    """Returns a picture file's content with TensorFlow ops; of TIFF, a PNG.

    Args:
        path: scalar string tensor.

    Returns:
        Scalar string tensor; empty where a TIFF file cannot be decoded.
    """
    import numpy as np
    import tensorflow as tf

    def kept_png(name: Any) -> bytes:
        return _kept_png(np.asarray(name, object).item())  # outside of a graph it is an array

    def turned() -> Any:
        return tf.ensure_shape(tf.numpy_function(kept_png, [path], tf.string, stateful=False), [])

    stem = tf.strings.regex_replace(path, r"(?i)\.tiff?$", "")
    return tf.cond(tf.strings.length(stem) < tf.strings.length(path), turned, lambda: tf.io.read_file(path))


def as_png(content: bytes) -> bytes:
    """Returns the first page of a TIFF file as PNG with its samples, upright; what is no TIFF file as it is.

    Alpha is dropped; palettes become RGB; pictures whose white is 0 are inverted.

    Raises:
        ValueError: samples are not of 1 to 16 bits without sign, or are neither grey nor RGB. What tifffile raises for damaged
            files besides.
    """
    if content[:4] not in _STARTS:
        return content
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        upright = _upright(_grey_or_rgb(page), int(page.tags.valueof("Orientation", 1)))
    return bytes(imagecodecs.png_encode(upright, level=1))


def for_model(content: bytes) -> bytes:
    """Returns a picture file as a model takes it: TIFF as PNG; what is no TIFF file, or cannot be turned, as it is."""
    with contextlib.suppress(
        Exception
    ):  # tifffile raises many kinds of errors; the model will say that it is no picture
        return as_png(content)
    return content


class _KindError(ValueError):
    """A file that is well formed and not read all the same."""


def _grey_or_rgb(page: Any) -> "np.ndarray":
    """Returns `[height, width]` or `[height, width, 3]`, uint8 or uint16."""
    import numpy as np
    from tifffile import PHOTOMETRIC

    kind, bits = page.photometric, page.bitspersample
    coloured = kind in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    if not coloured and kind not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE):
        raise _KindError(f"has the colours {PHOTOMETRIC(kind).name}, neither grey, palette nor RGB")
    if page.dtype is None or page.dtype.kind not in "bu" or page.dtype.itemsize > 2:
        raise _KindError(f"has samples of the type {page.dtype}, not of 8 or 16 bits without sign")
    extra = page.samplesperpixel - (3 if coloured else 1)
    if any(int(meaning) not in _ALPHA for meaning in page.extrasamples) or extra > len(page.extrasamples):
        raise _KindError(f"has {page.samplesperpixel} channels, neither grey nor RGB")
    samples = page.asarray()
    if page.axes not in ("YX", "YXS", "SYX"):
        raise _KindError(f"has the dimensions {page.axes}, not those of a picture")
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    if samples.ndim == 3:
        samples = samples[..., :3] if coloured else samples[..., 0]
    if kind == PHOTOMETRIC.PALETTE:
        return (np.moveaxis(page.colormap, 0, -1)[samples] >> 8).astype(np.uint8)
    largest = 2**bits - 1
    if kind == PHOTOMETRIC.MINISWHITE:
        samples = largest - samples.astype(np.uint16)
    if bits < 8:
        samples = samples.astype(np.uint16) * 255 // largest
    return np.ascontiguousarray(samples.astype(np.uint8 if bits <= 8 else np.uint16))


def _upright(samples: "np.ndarray", orientation: int) -> "np.ndarray":
    """Turns and mirrors as the tag says; as `tfpt.layers.orientation.orient`."""
    import numpy as np

    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples)


def _kept_png(path: bytes) -> bytes:
    """Returns a TIFF file as PNG, made once for each content; empty bytes where that fails, which no decoder takes."""
    try:
        content = Path(os.fsdecode(path)).read_bytes()
        name = hashlib.blake2b(content, digest_size=16).hexdigest()
        kept = home() / "tiff" / f"{name}.png"
        with contextlib.suppress(OSError):
            return kept.read_bytes()
        png = as_png(content)
    except Exception:  # tifffile raises many kinds of errors, and one bad file must not stop the others
        return b""
    temporary = kept.with_name(f".{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(png)
            temporary.replace(kept)
        finally:
            temporary.unlink(missing_ok=True)
    return png
