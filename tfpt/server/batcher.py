"""Puts examples of several clients into one batch, without letting any wait long for the others."""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfpt.server.metrics import Metrics
from tfpt.server.model import Model, Work
from tfpt.server.refusal import busy
from tfpt.serving.padding import concatenated

_Lane = tuple[Model, tuple[Any, ...]]


@dataclasses.dataclass
class _Item:
    work: Work
    answer: "asyncio.Future[dict[str, np.ndarray]]"
    arrived: float


class Batcher:
    """One batch at a time on a thread of its own, so that the event loop goes on meanwhile.

    An example waits only while others are being prepared (`preparing`), and then at most `wait` seconds.
    """

    def __init__(self, *, batch_size: int, wait: float, queue: int, metrics: Metrics) -> None:
        """Makes a batcher.

        Args:
            batch_size: most examples of a batch; of those that take longer than usual accordingly fewer.
            wait: seconds that an example may wait for others.
            queue: examples that may be waiting.
            metrics: where batches are counted.
        """
        self.sizes = batch_sizes(batch_size)
        self._wait = wait
        self._queue = queue
        self._metrics = metrics
        metrics.queue.set_function(lambda: self._waiting)  # asked for when it is looked at: a batch may take long
        self._lanes: collections.OrderedDict[_Lane, collections.deque[_Item]] = collections.OrderedDict()
        self._waiting = 0
        self._preparing = 0
        self._changed = asyncio.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "tfpt-model")

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Says that examples are on their way, while the block runs."""
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1
            self._changed.set()

    async def submit(self, model: Model, work: Work) -> dict[str, np.ndarray]:
        """Returns the answers to a request's examples.

        Raises:
            Refusal: the queue is full, or the model does not take them.
        """
        if self._waiting + work.length > self._queue:
            raise busy(f"{self._waiting} examples are waiting already; come back later")
        loop = asyncio.get_running_loop()
        items = [_Item(part, loop.create_future(), time.monotonic()) for part in work.parts(self.sizes[-1])]
        self._lanes.setdefault((model, work.key), collections.deque()).extend(items)
        self._waiting += work.length
        self._changed.set()
        try:
            answers = await asyncio.gather(*(item.answer for item in items))
        finally:
            for item in items:
                item.answer.cancel()
        if len(answers) == 1:
            return answers[0]
        return {name: concatenated([answer[name] for answer in answers]) for name in answers[0]}

    async def run(self) -> None:
        """Computes batches until it is cancelled."""
        while True:
            if self._lanes:
                await self._turn()
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _turn(self) -> None:
        """Computes one batch; a function of its own, so that no model is held while nobody asks."""
        lane, items = next(iter(self._lanes.items()))
        await self._fill(items)
        taken = self._take(items)
        if items:
            self._lanes.move_to_end(lane)
        else:
            del self._lanes[lane]
        if taken:
            await self._compute(lane[0], taken)

    async def _fill(self, items: "collections.deque[_Item]") -> None:
        """Waits until there is a whole batch, or nobody comes, or the first has waited long enough."""
        first = items[0]
        until, enough = first.arrived + self._wait, first.work.share(self.sizes[-1])
        while self._preparing and not first.work.alone and sum(item.work.length for item in items) < enough:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _take(self, items: "collections.deque[_Item]") -> list[_Item]:
        """Takes the first items that make a batch, of a size that was warmed up where that is possible."""
        while items and items[0].answer.done():  # whoever asked has gone
            self._waiting -= items.popleft().work.length
        total, best, count = 0, 0, 0
        for number, item in enumerate(items, start=1):
            total += item.work.length
            if total > item.work.share(self.sizes[-1]):
                break
            count = number
            if total in self.sizes:
                best = number
        taken = [items.popleft() for _ in range(best or count)]
        self._waiting -= sum(item.work.length for item in taken)
        return [item for item in taken if not item.answer.done()]

    async def _compute(self, model: Model, items: list[_Item]) -> None:
        loop = asyncio.get_running_loop()
        size, started = sum(item.work.length for item in items), time.monotonic()
        try:
            answers = await loop.run_in_executor(self._thread, model.predict, [item.work for item in items])
        except Exception as error:
            if len(items) > 1:  # find out whose fault it is
                for item in items:
                    await self._compute(model, [item])
                return
            for item in items:
                if not item.answer.done():
                    item.answer.set_exception(error)
            return
        self._metrics.batch_size.observe(size)
        self._metrics.model_seconds.observe(time.monotonic() - started)
        for item, answer in zip(items, answers, strict=True):
            if not item.answer.done():
                item.answer.set_result(answer)

    def close(self) -> None:
        """Ends the thread; the batch that is being computed is finished first."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def batch_sizes(largest: int) -> tuple[int, ...]:
    """Returns the sizes that batches are given where possible: powers of two, and the largest.

    A library that compiles for shapes (oneDNN, cuDNN) takes some 100 ms for a size that it sees for the first time.
    """
    return (*(2**k for k in range(largest.bit_length()) if 2**k < largest), largest)
