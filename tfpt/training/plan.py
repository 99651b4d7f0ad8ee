"""Which examples are in which batch: a pure function of seed and epoch, so that any step can be found again.

A row holds one global batch. `~i` (a negative number) is a filler: example i is computed, to keep the shape, and weighs
nothing. Workers and replicas take slices of a row.
"""

import numpy as np

POOL_BATCHES = 50
"""Batches of like lengths are made from shuffled pools of so many batches: little padding, and still random company."""


def training_plan(
    examples: np.ndarray, *, batch_size: int, seed: int, epoch: int, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Shuffles the examples of one epoch into batches; each example counts exactly once.

    Args:
        examples: `[examples]` int64, indices of the training examples.
        batch_size: examples in a row.
        seed: of the run.
        epoch: counted from 0 over all stages.
        lengths: length of each example by its index; examples of like length then share a row, in shuffled order.

    Returns:
        `[steps, batch_size]` int64; the last row is filled up with fillers.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = random.permutation(np.asarray(examples, np.int64))
    if lengths is None:
        return _rows(order, batch_size)
    pool = POOL_BATCHES * batch_size
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    rows = _rows(np.concatenate([p[np.argsort(lengths[p], kind="stable")] for p in pools]), batch_size)
    whole = len(order) // batch_size
    return rows[[*random.permutation(whole), *range(whole, len(rows))]]


def evaluation_plan(examples: np.ndarray, *, batch_size: int, lengths: np.ndarray | None = None) -> np.ndarray:
    """Puts the examples into batches in their own order, or by their lengths.

    Returns:
        `[steps, batch_size]` int64; the last row is filled up with fillers.
    """
    examples = np.asarray(examples, np.int64)
    return _rows(examples if lengths is None else examples[np.argsort(lengths[examples], kind="stable")], batch_size)


def _rows(order: np.ndarray, batch_size: int) -> np.ndarray:
    steps = -(-len(order) // batch_size)
    missing = steps * batch_size - len(order)
    fillers = ~np.resize(order[::-1], missing) if missing else np.empty(0, np.int64)
    return np.concatenate([order, fillers]).reshape(steps, batch_size)
