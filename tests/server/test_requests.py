"""The way of a request: how much memory it may take, how it is counted, and who gets a thread."""

import asyncio
import contextlib
import threading
import time

import numpy as np
import pytest

from tfpt.server import requests as module
from tfpt.server.metrics import Metrics
from tfpt.server.model import Work
from tfpt.server.options import Options
from tfpt.server.refusal import Code, Refusal
from tfpt.server.requests import ModelSpec, Requests


class Slow:
    """A model that prepares a given number of portions, and says which were done."""

    def __init__(self):
        self.done = []

    def preparing(self, name, values):
        for portion in range(values["portions"] - 1):
            time.sleep(0.02)
            self.done.append((name, portion))
            yield None
        self.done.append((name, values["portions"] - 1))
        yield Work(signature=name, values={}, length=1, key=())


class Around:
    """Versions of one model, and a batcher that answers with nothing."""

    def __init__(self, model):
        self._model = model

    @contextlib.contextmanager
    def lease(self, **spec):
        yield 1, self._model

    @contextlib.contextmanager
    def preparing(self):
        yield

    async def submit(self, model, work):
        return {}


def made(model=None, **options):
    around = Around(model)
    return Requests(options=Options(**options), versions=around, batcher=around, metrics=Metrics())


def test_what_requests_are_unpacked_to_counts_and_is_given_back():
    requests = made(max_body_mb=1.0)
    with requests.admitted() as one, requests.admitted() as other:
        one.grow(900_000)
        one.reserve(15_000_000)
        with pytest.raises(Refusal, match="other requests take all the memory") as refusal:
            other.reserve(200_000)
        assert refusal.value.code is Code.UNAVAILABLE
        other.reserve(100_000)
        with pytest.raises(Refusal, match="larger than 1 MB"):
            one.grow(200_000)
    assert requests.bytes == 0
    with pytest.raises(Refusal):  # by a thread that has not heard that the request is over
        other.reserve(1)
    assert requests.bytes == 0


def test_a_request_that_is_cut_off_is_counted_as_that():
    requests = made()

    async def scenario():
        async def forever():
            async with requests.counted("grpc", "predict"):
                await asyncio.sleep(60)

        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    text = requests._metrics.text().decode()
    assert 'tfpt_requests_total{interface="grpc",method="predict",status="CANCELLED"} 1.0' in text
    assert "OK" not in text


def test_a_small_request_gets_the_thread_between_two_portions_of_a_large_one(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 1)
    model = Slow()
    requests = made(model)

    async def scenario():
        large = asyncio.create_task(requests.answers(ModelSpec(name="m"), lambda model: ("large", {"portions": 20})))
        await asyncio.sleep(0.03)
        await requests.answers(ModelSpec(name="m"), lambda model: ("small", {"portions": 1}))
        assert not large.done()
        await large

    asyncio.run(scenario())
    requests.close()
    assert model.done.index(("small", 0)) < 10 and len(model.done) == 21


def test_a_large_answer_is_written_off_the_event_loop():
    requests = made()

    async def scenario():
        return [
            await requests.written({"scores": np.zeros([rows, 100])}, threading.current_thread) for rows in (10, 11)
        ]

    small, large = asyncio.run(scenario())
    requests.close()
    assert small is threading.main_thread() and large.name.startswith("tfpt-prepare")
