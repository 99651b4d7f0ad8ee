"""Answers of several batches as one: where their lengths differ, zeros or "" stand behind the shorter ones."""

from collections.abc import Sequence

import numpy as np


def concatenated(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Puts arrays one after the other, each padded to the longest in every dimension but the first."""
    shape = tuple(map(max, zip(*(part.shape[1:] for part in parts), strict=True)))
    return np.concatenate([padded(part, shape) for part in parts])


def padded(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns values with zeros, or "" for texts, behind them, so that each row has the shape."""
    if values.shape[1:] == shape:
        return values
    wider = np.full((len(values), *shape), b"" if values.dtype == object else np.zeros((), values.dtype), values.dtype)
    wider[tuple(map(slice, values.shape))] = values
    return wider
