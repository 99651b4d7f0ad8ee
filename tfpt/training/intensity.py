"""`--input.intensity`: which samples of 16-bit pictures become black and white, decided once, by the training pictures.

A camera of 12 bits leaves the upper four of 16 empty, so the upper byte of its samples says next to nothing.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpt.config import intensity_window
from tfpt.cores import cores
from tfpt.data import DataSource
from tfpt.errors import UserError
from tfpt.layers.decoding import is_deep_png
from tfpt.preprocessors import Preprocessor
from tfpt.preprocessors.image import Image
from tfpt.untuned import untuned

LOOKED_AT = 100
"""Training pictures that are looked at, evenly spaced."""
LEVELS = 65536
FULL = 0.5
"""Pictures that use more than this share of all levels are taken as they are by `auto`."""


def with_intensity(
    preprocessor: Preprocessor, source: DataSource, train: np.ndarray, wanted: str
) -> tuple[Preprocessor, str]:
    """Returns the preprocessor with the window of intensities that the flag asks for, and a sentence about it.

    Args:
        preprocessor: one for pictures is changed, any other is returned as it is.
        source: the data.
        train: `[examples]` int64, the training examples.
        wanted: `--input.intensity`.

    Raises:
        UserError: percentiles are asked of data in which no 16-bit picture is found.
    """
    word, low, high = intensity_window(wanted)
    if not isinstance(preprocessor, Image) or word == "full":
        return preprocessor, ""
    if word == "range":
        return dataclasses.replace(preprocessor, intensity=(low, high)), ""
    shares = _shares(source, preprocessor.feature, train)
    if shares is None:
        if word == "auto":
            return preprocessor, ""
        raise UserError(
            f"--input.intensity={wanted} is for pictures with 16 bits a sample, and none of the training pictures that were looked "
            "at is one; leave it at auto."
        )
    below = shares.cumsum()
    darkest = int(np.searchsorted(below, low / 100, side="right"))
    brightest = max(int(np.searchsorted(below, high / 100 - 1e-9)), darkest + 1)
    found = f"The pictures have 16 bits a sample, {low:g} to {high:g} % of the training pictures' from {darkest} to {brightest}"
    if word == "auto" and brightest - darkest > FULL * LEVELS:
        return preprocessor, f"{found}: their upper 8 bits are taken (--input.intensity=full)."
    window = (float(darkest), float(brightest))
    return (
        dataclasses.replace(preprocessor, intensity=window),
        f"{found}: these become 0 to 255, in the exported model as well (--input.intensity=range:{darkest},{brightest}).",
    )


def _shares(source: DataSource, feature: str, train: np.ndarray) -> np.ndarray | None:
    """Returns which share of samples each level has, `[LEVELS]`, every picture counting alike; None without 16-bit ones."""

    def samples(encoded: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_png(encoded, dtype=tf.uint16)
        return image[..., : tf.where(tf.shape(image)[-1] >= 3, 3, 1)]  # without alpha

    pictures = tf.data.Dataset.from_tensor_slices(train[:: -(-len(train) // LOOKED_AT)])
    pictures = pictures.map(lambda k: source.example(k)[feature], num_parallel_calls=cores()).ignore_errors()
    deep = pictures.filter(is_deep_png).map(samples, num_parallel_calls=2).ignore_errors()
    total, count = np.zeros(LEVELS), 0
    for values in untuned(deep).as_numpy_iterator():
        total += np.bincount(values.reshape(-1), minlength=LEVELS) / values.size
        count += 1
    return total / count if count else None
