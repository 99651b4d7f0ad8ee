"""Which examples are in which batch: a pure function of seed and epoch, so that any step can be found again.

A row holds one global batch. `~i` (a negative number) is a filler: example i is computed, to keep the shape, and weighs
nothing. Workers and replicas take slices of a row.
"""

import dataclasses
import functools

import numpy as np

from tfpt.training.sampling import sampled

LIKE_LENGTH = 8
"""Under a token budget, texts whose lengths round up to the same multiple of this are of like length."""
POOL_BATCHES = 50
"""Batches of like lengths are made from shuffled pools of so many batches: little padding, and still random company."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPlan:
    """The batches of all epochs; every epoch has as many.

    Attributes:
        examples: `[examples]` int64, indices of the training examples.
        batch_size: examples in a row, where `tokens` is 0.
        seed: of the run.
        lengths: length of each example by its index; examples of like length then share a row.
        tokens: a row holds as many examples as fit into so many tokens, padding counted.
        multiple: a row's number of examples can be divided by this.
        replicas: and by this, with fillers, so that the examples of a row do not depend on it.
        labels: class of each example by its index, for `sampling`.
        sampling: `natural`, `balanced` or `sqrt`; not with `tokens`.
    """

    examples: np.ndarray
    batch_size: int
    seed: int
    lengths: np.ndarray | None = None
    tokens: int = 0
    multiple: int = 1
    replicas: int = 1
    labels: np.ndarray | None = None
    sampling: str = "natural"

    @property
    def width(self) -> int | None:
        """The number of examples in every row; None where it differs."""
        return None if self._sizes else self.batch_size

    @property
    def steps(self) -> int:
        """Updates an epoch."""
        return len(self._sizes) or -(-len(self.examples) // self.batch_size)

    def rows(self, epoch: int) -> list[np.ndarray]:
        """Returns the rows of an epoch, which is counted from 0 over all stages: each example counts exactly once, or as often
        as its class is drawn."""
        if not self._sizes:
            examples = sampled(self.examples, self.labels, sampling=self.sampling, seed=self.seed, epoch=epoch)
            return list(
                training_plan(examples, batch_size=self.batch_size, seed=self.seed, epoch=epoch, lengths=self.lengths)
            )
        random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = random.permutation(self.examples)
        order = order[np.argsort(self._rounded[order], kind="stable")]
        rows = np.split(order, np.cumsum(self._sizes)[:-1])
        whole = self.multiple * self.replicas
        filled = [_rows(row, -(-len(row) // whole) * whole)[0] for row in rows]
        return [filled[i] for i in random.permutation(len(filled))]

    @functools.cached_property
    def _rounded(self) -> np.ndarray:
        assert self.lengths is not None
        return -(-self.lengths // LIKE_LENGTH) * LIKE_LENGTH

    @functools.cached_property
    def _sizes(self) -> list[int]:
        """How many examples each row holds, rows in the order of length; the same in every epoch."""
        if not self.tokens or self.lengths is None:
            return []
        sizes, lengths = [], np.sort(self._rounded[self.examples])
        start = 0
        while start < len(lengths):
            next_ones = lengths[start : start + self.tokens]
            most = int(np.count_nonzero(next_ones * np.arange(1, len(next_ones) + 1) <= self.tokens))
            size = max(most // self.multiple, 1) * self.multiple
            sizes.append(min(size, len(lengths) - start))
            start += size
        return sizes


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
    """Puts the examples into batches in their own order, or the longest first: none of those is left for the end, alone.

    Returns:
        `[steps, batch_size]` int64; the last row is filled up with fillers.
    """
    examples = np.asarray(examples, np.int64)
    return _rows(examples if lengths is None else examples[np.argsort(-lengths[examples], kind="stable")], batch_size)


def _rows(order: np.ndarray, batch_size: int) -> np.ndarray:
    steps = -(-len(order) // batch_size)
    missing = steps * batch_size - len(order)
    fillers = ~np.resize(order[::-1], missing) if missing else np.empty(0, np.int64)
    return np.concatenate([order, fillers]).reshape(steps, batch_size)
