"""How many examples TensorFlow Serving should compute together, from what batches of each size take."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tfpt.cores import cores

SIZES = (1, 2, 4, 8, 16, 32)
_ENOUGH = 0.9
"""The smallest size that reaches this share of the best throughput: larger ones only make everybody wait longer."""
_LONGEST_WAIT, _SHORTEST_WAIT = 0.010, 0.0005
_QUEUED_SECONDS = 1.0
"""So much work may wait; a client that finds more is told at once, rather than answered when it has given up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """TensorFlow Serving's batching parameters.

    Attributes:
        max_batch_size: most examples of a batch.
        timeout: seconds that a batch waits for more of them: half of what the smallest batch takes.
        threads: batches at a time, one a core.
        enqueued: batches that may wait.
        speed: batch size -> examples a second, what it was chosen by.
    """

    max_batch_size: int
    timeout: float
    threads: int
    enqueued: int
    speed: Mapping[int, float]

    @property
    def text(self) -> str:
        """The parameters as the file that `--batching_parameters_file` names."""
        allowed = [size for size in SIZES if size < self.max_batch_size] + [self.max_batch_size]
        told = ", ".join(f"{size}: {rate:,.0f}" for size, rate in self.speed.items())
        lines = [
            f"# Examples a second by batch size, as they were measured: {told}.",
            f"max_batch_size {{ value: {self.max_batch_size} }}",
            f"batch_timeout_micros {{ value: {round(1e6 * self.timeout)} }}",
            f"num_batch_threads {{ value: {self.threads} }}",
            f"max_enqueued_batches {{ value: {self.enqueued} }}",
            *(f"allowed_batch_sizes: {size}" for size in allowed),
        ]
        return "\n".join(lines) + "\n"


def choose(seconds: Mapping[int, float]) -> Batching:
    """Returns the parameters for a model.

    Args:
        seconds: batch size -> what a batch takes.
    """
    speed = {size: size / taken for size, taken in sorted(seconds.items())}
    best = max(speed.values())
    size = next(size for size, rate in speed.items() if rate >= _ENOUGH * best)
    return Batching(
        max_batch_size=size,
        timeout=min(_LONGEST_WAIT, max(_SHORTEST_WAIT, seconds[min(seconds)] / 2)) if size > 1 else 0.0,
        threads=cores(),
        enqueued=max(1, round(_QUEUED_SECONDS * speed[size] / size)),
        speed=speed,
    )


def glance(answer: Callable[[int], Any], *, sizes: Iterable[int] = SIZES, each: float = 0.05) -> dict[int, float]:
    """Returns the seconds of a batch of each size: the shortest of a few, what else the machine does only makes it longer.

    Args:
        answer: answers a batch of a size.
        sizes: the sizes, growing; it ends with the first that takes a second.
        each: seconds to spend on one.
    """
    found = {}
    for size in sizes:
        answer(size)  # the first of a size takes longer
        times: list[float] = []
        while not times or sum(times) < each:
            started = time.perf_counter()
            answer(size)
            times.append(time.perf_counter() - started)
        found[size] = min(times)
        if found[size] >= 1:
            break
    return found
