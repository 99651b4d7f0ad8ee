"""What both interfaces do with a request: admit it, prepare it in a thread, have it computed, all within its time."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from tfpt.server.batcher import Batcher
from tfpt.server.metrics import Metrics
from tfpt.server.model import Model, Work
from tfpt.server.options import Options
from tfpt.server.refusal import Code, Refusal, busy
from tfpt.server.signature import Values
from tfpt.server.versions import Versions

_BODIES_IN_MEMORY = 16
"""Requests of the largest size that may be in memory at a time; smaller ones accordingly more."""
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
        self.size = 0
        self._requests = requests

    def grow(self, size: int) -> None:
        """Counts bytes that have arrived.

        Raises:
            Refusal: it is more than a request may have, or all requests together.
        """
        self.size += size
        self._requests.bytes += size
        options = self._requests.options
        if self.size > options.max_body:
            raise Refusal(Code.TOO_LARGE, f"the request is larger than {options.max_body_mb:g} MB")
        if self._requests.bytes > _BODIES_IN_MEMORY * options.max_body:
            raise busy("other requests take all the memory; come back later")


class Requests:
    """The way of a request from bytes to answers."""

    def __init__(self, *, options: Options, versions: Versions, batcher: Batcher, metrics: Metrics) -> None:
        self.options = options
        self.versions = versions
        self.bytes = 0
        self.stopping = False
        self._metrics = metrics
        self._batcher = batcher
        self._threads = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1, "tfpt-prepare")

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Ticket]:
        """Yields a ticket that is given back when the block ends."""
        ticket = Ticket(self)
        try:
            yield ticket
        finally:
            self.bytes -= ticket.size

    @contextlib.asynccontextmanager
    async def counted(self, interface: str, method: str) -> AsyncIterator[None]:
        """Counts the request and its time."""
        started, status = time.monotonic(), "OK"
        try:
            yield
        except Refusal as refusal:
            status = refusal.code.name
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
        until = time.monotonic() + self.options.timeout_seconds

        def prepare(model: Model) -> Work:
            return model.prepare(*inputs(model), expired=lambda: time.monotonic() > until)

        with self.versions.lease(name=spec.name, version=spec.version, label=spec.label) as (version, model):
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.options.timeout_seconds):
                    with self._batcher.preparing():
                        work = await self.in_thread(prepare, model)
                    return version, work.signature, await self._batcher.submit(model, work)
            except TimeoutError as error:
                raise busy(f"there was no answer within {self.options.timeout_seconds:g} s") from error

    async def in_thread(self, function: Callable[..., _Made], *arguments: Any) -> _Made:
        """Runs a function off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
