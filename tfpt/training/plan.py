"""Which examples are in which batch: a pure function of seed and epoch, so that any step can be found again.

A row holds one global batch. `~i` (a negative number) is a filler: example i is computed, to keep the shape, and weighs
nothing. Workers and replicas take slices of a row.
"""

import numpy as np


def training_plan(examples: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Shuffles the examples of one epoch into batches; each example counts exactly once.

    Args:
        examples: `[examples]` int64, indices of the training examples.
        batch_size: examples in a row.
        seed: of the run.
        epoch: counted from 0 over all stages.

    Returns:
        `[steps, batch_size]` int64; the last row is filled up with fillers.
    """
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(np.asarray(examples, np.int64))
    return _rows(order, batch_size)


def evaluation_plan(examples: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Puts the examples into batches in their own order.

    Returns:
        `[steps, batch_size]` int64; the last row is filled up with fillers.
    """
    return _rows(np.asarray(examples, np.int64), batch_size)


def _rows(order: np.ndarray, batch_size: int) -> np.ndarray:
    steps = -(-len(order) // batch_size)
    missing = steps * batch_size - len(order)
    fillers = ~np.resize(order, missing) if missing else np.empty(0, np.int64)
    return np.concatenate([order, fillers]).reshape(steps, batch_size)
