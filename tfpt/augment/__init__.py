"""Training-only random operations, one file each, written `random_crop(pad=8)|flip`.

An op is a frozen dataclass; its fields are its arguments. It defines `example` (one example, before batching) or
`batch` (a whole batch, as mixup needs), never both. All its randomness comes from the seed it is given.
"""

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True)
class Op:
    """One random operation."""

    moves: ClassVar[frozenset[str]] = frozenset()
    """The features that it can move (`image`, `boxes`, `masks`, `waveform`, `text`). An op that changes geometry and
    cannot move a feature that is present is refused."""

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features of one example, changed.

        Args:
            features: host outputs and targets of one example; `image` is `[height, width, 3]` uint8.
            seed: `[2]` int32, from run seed, epoch, example and the op's position.
        """
        raise NotImplementedError

    def batch(self, inputs: Any, targets: Any, seeds: Any) -> tuple[Any, Any]:
        """Returns inputs and targets of a batch, changed.

        Args:
            inputs: the task's inputs, `[batch, ...]`.
            targets: the task's targets, `[batch, ...]`.
            seeds: `[batch, 2]` int32.
        """
        raise NotImplementedError
