"""What both interfaces do with a request: admit it, prepare it in a thread, have it computed, all within its time."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from tfpt.cores import cores
from tfpt.server.batcher import Batcher
from tfpt.server.metrics import Metrics
from tfpt.server.model import Model, Work
from tfpt.server.options import Options
from tfpt.server.refusal import Code, Refusal, busy
from tfpt.server.signature import Values
from tfpt.server.versions import Versions

BODIES_IN_MEMORY = 16
"""Requests of the largest size that may be in memory at a time; smaller ones accordingly more."""
_SMALL_ANSWER = 1000
"""Values that are written without leaving the event loop."""
_Made = TypeVar("_Made")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model a request is for.

    Attributes:
        name: of the model.
        version: its number; None: the newest.
        label: a name for a version.
    """

    name: str
    version: int | None = None
    label: str = ""


Inputs = Callable[[Model], tuple[str, Values]]
"""Reads a request: the name of the signature, and its inputs."""


class Ticket:
    """A request that was admitted, and how much memory it takes."""

    def __init__(self, requests: "Requests") -> None:
        self._arrived = 0
        self._taken = 0
        self._given_back = False
        self._requests = requests

    def grow(self, size: int) -> None:
        """Counts bytes that have arrived.

        Raises:
            Refusal: it is more than a request may have, or all requests together.
        """
        self._arrived += size
        options = self._requests.options
        if self._arrived > options.max_body:
            raise Refusal(Code.TOO_LARGE, f"the request is larger than {options.max_body_mb:g} MB")
        self.reserve(size)

    def reserve(self, size: int) -> None:
        """Counts bytes that reading the request is about to take; any thread may.

        Raises:
            Refusal: all requests together would take too many.
        """
        requests = self._requests
        with requests.counting:
            # A thread may go on reading a request whose time is over; what it took then would never be given back.
            if self._given_back or requests.bytes + size > BODIES_IN_MEMORY * requests.options.max_body:
                raise busy("other requests take all the memory; come back later")
            requests.bytes += size
            self._taken += size

    def give_back(self) -> None:
        """Counts nothing any more."""
        with self._requests.counting:
            self._given_back = True
            self._requests.bytes -= self._taken


class Requests:
    """The way of a request from bytes to answers."""

    def __init__(self, *, options: Options, versions: Versions, batcher: Batcher, metrics: Metrics) -> None:
        self.options = options
        self.versions = versions
        self.bytes = 0
        self.counting = threading.Lock()
        self.stopping = False
        self.broken = False
        self._admitted = 0
        self._metrics = metrics
        self._batcher = batcher
        self._threads = concurrent.futures.ThreadPoolExecutor(cores(), "tfpt-prepare")

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Ticket]:
        """Yields a ticket that is given back when the block ends.

        Raises:
            Refusal: there are too many requests.
        """
        if self._admitted >= self.options.connections:
            raise busy(f"{self._admitted} requests are being answered already; come back later")
        ticket = Ticket(self)
        self._admitted += 1
        try:
            yield ticket
        finally:
            self._admitted -= 1
            ticket.give_back()

    @contextlib.asynccontextmanager
    async def counted(self, interface: str, method: str) -> AsyncIterator[None]:
        """Counts the request and its time."""
        started, status = time.monotonic(), "OK"
        try:
            yield
        except Refusal as refusal:
            status = refusal.code.name
            raise
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except Exception:
            status = "INTERNAL"
            raise
        finally:
            self._metrics.requests.labels(interface, method, status).inc()
            self._metrics.seconds.labels(interface, method).observe(time.monotonic() - started)

    async def answers(self, spec: ModelSpec, inputs: Inputs) -> tuple[int, str, dict[str, np.ndarray]]:
        """Answers a request.

        Args:
            spec: which model it is for.
            inputs: reads it; runs in a thread.

        Returns:
            The version that answered, the signature's name, and the answers by output name, `[examples, ...]` each.

        Raises:
            Refusal: it cannot be answered, or not in time.
        """
        with self.versions.lease(name=spec.name, version=spec.version, label=spec.label) as (version, model):
            try:
                async with asyncio.timeout(self.options.timeout_seconds):
                    with self._batcher.preparing():
                        work = await self._prepared(model, inputs)
                    return version, work.signature, await self._batcher.submit(model, work)
            except TimeoutError as error:
                raise busy(f"there was no answer within {self.options.timeout_seconds:g} s") from error

    async def _prepared(self, model: Model, inputs: Inputs) -> Work:
        """Reads and prepares a request in portions: between two of a large one, small ones get the thread."""

        def begin() -> tuple[Iterator[Work | None], Work | None]:
            steps = model.preparing(*inputs(model))
            return steps, next(steps)

        steps, work = await self.in_thread(begin)
        while work is None:
            work = await self.in_thread(next, steps)
        return work

    async def written(self, answers: Values, write: Callable[[], _Made]) -> _Made:
        """Returns what `write` makes of the answers: off the event loop, where it takes long.

        Args:
            answers: by output name, `[examples, ...]` each.
            write: makes the message.
        """
        if sum(value.size for value in answers.values()) <= _SMALL_ANSWER:
            return write()
        return await self.in_thread(write)

    async def in_thread(self, function: Callable[..., _Made], *arguments: Any) -> _Made:
        """Runs a function off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
