"""What scored examples are in the data, for what shows the truth beside the answers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfpt.data import DataSource
from tfpt.untuned import untuned


def originals(source: DataSource, examples: np.ndarray, features: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields raw features of examples, texts as `str`, in the order that is asked for.

    Args:
        source: the data.
        examples: `[examples]` int64.
        features: those to read.
    """
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(np.asarray(examples, np.int64))
    rows = rows.map(lambda k: {name: source.example(k)[name] for name in features})
    for row in untuned(rows).as_numpy_iterator():
        yield {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in row.items()
        }
