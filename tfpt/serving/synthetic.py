"""Raw examples that nobody owns: for warm-up, proofs and measurements."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfpt.preprocessors import Preprocessor
from tfpt.preprocessors.image import Image
from tfpt.preprocessors.text import Text

PHOTO = (500, 375)
"""Width and height in pixels, about the mean of ImageNet's pictures."""
SENTENCE = 20
"""Words."""
_WORDS = (
    "the", "a", "of", "and", "to", "in", "it", "was", "for", "on", "with", "they", "not", "what", "all", "were", "when",
    "we", "there", "which", "about", "how", "up", "out", "some", "so", "more", "two", "like", "time", "could", "make",
    "people", "Anna", "Paris", "London", "water", "oil", "day", "1999",
)  # fmt: skip


def samples(preprocessors: Iterable[Preprocessor]) -> dict[str, bytes]:
    """Returns the preprocessors' own samples by feature: the smallest example that warms a model up."""
    return {name: p.sample() for p in preprocessors for name in p.raw_features}


def examples(
    preprocessors: Iterable[Preprocessor],
    count: int,
    *,
    seed: int = 0,
    picture: tuple[int, int] = PHOTO,
    words: int = SENTENCE,
) -> list[dict[str, bytes]]:
    """Returns different examples by feature: JPEG files of smooth noise, and sentences of words that mean nothing.

    Args:
        preprocessors: what reads them; one that reads neither pictures nor texts gets its own sample.
        count: how many.
        seed: another gives others.
        picture: width and height in pixels.
        words: of a text; lengths are spread from half of it to one and a half.
    """
    random = np.random.default_rng(seed)
    made: list[dict[str, bytes]] = []
    for k in range(count):
        example: dict[str, bytes] = {}
        for preprocessor in preprocessors:
            if isinstance(preprocessor, Image):
                example[preprocessor.feature] = _jpeg(random, *picture)
                continue
            for name in preprocessor.raw_features:
                length = max(1, round(words * (0.5 + (k + 0.5) / count)))
                text = " ".join(random.choice(_WORDS, length)).encode() + b"."
                example[name] = text if isinstance(preprocessor, Text) else preprocessor.sample()
        made.append(example)
    return made


def _jpeg(random: np.random.Generator, width: int, height: int) -> bytes:
    coarse = tf.constant(random.uniform(0, 255, (max(2, height // 40), max(2, width // 40), 3)), tf.float32)
    smooth = tf.image.resize(coarse, (height, width), method="bicubic")
    noisy = smooth + random.normal(0, 6, (height, width, 3))
    return bytes(tf.io.encode_jpeg(tf.saturate_cast(noisy, tf.uint8), quality=90).numpy())
