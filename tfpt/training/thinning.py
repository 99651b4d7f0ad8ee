"""Fewer examples than there are: so many of each class to train on, or so many in all for a first try."""

from collections.abc import Callable, Sequence

import numpy as np

from tfpt.config import Input
from tfpt.errors import UserError


def beyond_per_class(
    train: np.ndarray, labels: np.ndarray, position: Callable[[int], tuple[float, str]], wanted: int
) -> tuple[np.ndarray, dict[int, int]]:
    """Returns the training examples beyond so many of each class; a larger number keeps a superset.

    Args:
        train: `[n]` int64, training examples.
        labels: class of each example by its index.
        position: the order in which the examples of a class are kept, by their index.
        wanted: how many; 0: all.

    Returns:
        `[m]` int64, ascending, and the classes that have fewer than that, with their number.
    """
    left_out: list[int] = []
    fewer = {}
    for label in np.unique(labels[train]).tolist() if wanted else ():
        members = sorted(train[labels[train] == label].tolist(), key=position)
        left_out += members[wanted:]
        if len(members) < wanted:
            fewer[label] = len(members)
    return np.array(sorted(left_out), np.int64), fewer


def beyond_limit(
    parts: Sequence[np.ndarray], labels: np.ndarray, position: Callable[[int], tuple[float, str]], options: Input
) -> list[np.ndarray]:
    """Returns the examples of each part beyond `--input.limit`: of each class in each part at least one is kept, and its share.

    Args:
        parts: `[n]` int64 each: train, validation, test.
        labels: class of each example by its index.
        position: the order in which the examples of a class are kept, by their index.
        options: the flags.

    Raises:
        UserError: the limit is below one of each class in each part.
    """
    members = [part[labels[part] == label].tolist() for part in parts for label in np.unique(labels[part])]
    strata = [sorted(found, key=position) for found in members]
    sizes = np.array([len(found) for found in strata], np.int64)
    spare = options.limit - len(sizes)
    if not options.limit or options.limit >= sizes.sum():
        return [np.zeros(0, np.int64) for _ in parts]
    if spare < 0:
        raise UserError(
            f"--input.limit={options.limit} is too few for one example of each class in each split; write at least {len(sizes)}."
        )
    exact = spare * (sizes - 1) / (sizes - 1).sum()
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: spare - counts.sum()]] += 1  # the largest remainders
    left_out = {k for found, count in zip(strata, counts, strict=True) for k in found[1 + count :]}
    return [np.array([k for k in part.tolist() if k in left_out], np.int64) for part in parts]
