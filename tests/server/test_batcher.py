"""How examples of several clients come together: sizes, waiting, neighbours, a full queue."""

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from tfpt.server.batcher import Batcher, batch_sizes
from tfpt.server.metrics import Metrics
from tfpt.server.model import Work
from tfpt.server.refusal import Code, Refusal, invalid


class Echo:
    """A model that answers with what it gets, and refuses negative numbers."""

    def __init__(self):
        self.batches = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def predict(self, works):
        self.may_go_on.wait(10)
        self.batches.append(sum(work.length for work in works))
        if any((work.values["x"] < 0).any() for work in works):
            raise invalid("negative")
        return [dict(work.values) for work in works]


def work(*numbers, lane="a", **more):
    return Work(signature="s", values={"x": np.array(numbers)}, length=len(numbers), key=(lane,), **more)


def run(scenario, *, batch_size=8, wait=0.0, queue=100, metrics=None):
    async def inside():
        batcher = Batcher(batch_size=batch_size, wait=wait, queue=queue, metrics=metrics or Metrics())
        running = asyncio.create_task(batcher.run())
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            running.cancel()
            batcher.close()

    return asyncio.run(inside())


async def submitted(batcher, model, *works):
    tasks = [asyncio.create_task(batcher.submit(model, one)) for one in works]
    await asyncio.sleep(0.05)
    return tasks


def numbers(answers):
    return [answer["x"].tolist() if isinstance(answer, dict) else answer for answer in answers]


def test_what_waits_is_computed_together_at_sizes_that_were_warmed_up():
    model = Echo()

    async def scenario(batcher):
        model.may_go_on.clear()
        first = await submitted(batcher, model, work(0))
        rest = await submitted(batcher, model, *(work(k) for k in range(1, 12)))
        model.may_go_on.set()
        return await asyncio.gather(*first, *rest)

    assert numbers(run(scenario)) == [[k] for k in range(12)]
    assert model.batches == [1, 8, 2, 1]


def test_a_request_of_several_examples_is_cut_and_put_together_again():
    model = Echo()
    answer = run(lambda batcher: batcher.submit(model, work(*range(20))))
    assert answer["x"].tolist() == list(range(20))
    assert sorted(model.batches) == [4, 8, 8]


def test_other_keys_and_other_models_are_computed_apart():
    model, other = Echo(), Echo()

    async def scenario(batcher):
        model.may_go_on.clear()
        tasks = await submitted(batcher, model, work(0), work(1, lane="b"), work(2), work(3, lane="b"))
        tasks += await submitted(batcher, other, work(4))
        model.may_go_on.set()
        return await asyncio.gather(*tasks)

    assert numbers(run(scenario)) == [[0], [1], [2], [3], [4]]
    assert sorted(model.batches) == [2, 2]
    assert other.batches == [1]


def test_one_that_the_model_refuses_does_not_fail_its_neighbours():
    model = Echo()

    async def scenario(batcher):
        model.may_go_on.clear()
        tasks = await submitted(batcher, model, work(0), work(1), work(-2), work(3), work(4))
        model.may_go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(scenario)
    assert isinstance(answers[2], Refusal) and answers[2].code is Code.INVALID_ARGUMENT
    assert [a["x"].tolist() for a in answers if isinstance(a, dict)] == [[0], [1], [3], [4]]


def test_one_that_is_alone_does_not_wait():
    async def scenario(batcher):
        started = time.monotonic()
        await batcher.submit(Echo(), work(1))
        return time.monotonic() - started

    assert run(scenario, wait=5.0) < 1


def test_one_waits_for_others_that_are_being_prepared_but_not_for_ever():
    model = Echo()

    async def scenario(batcher):
        started = time.monotonic()
        with batcher.preparing():
            (task,) = await submitted(batcher, model, work(1))
            (second,) = await submitted(batcher, model, work(2))
            assert not task.done()
            await asyncio.gather(task, second)
        return time.monotonic() - started

    assert 0.25 < run(scenario, wait=0.3) < 3
    assert model.batches == [2]


def test_one_that_nobody_can_join_does_not_wait():
    async def scenario(batcher):
        started = time.monotonic()
        with batcher.preparing():
            await batcher.submit(Echo(), work(1, alone=True))
        return time.monotonic() - started

    assert run(scenario, wait=5.0) < 1


def test_examples_that_take_long_make_smaller_batches():
    model = Echo()

    async def scenario(batcher):
        model.may_go_on.clear()
        tasks = await submitted(
            batcher, model, work(0), work(*range(1, 6), lane="c", cost=4), work(6, lane="b", cost=100)
        )
        tasks += await submitted(batcher, model, work(7, lane="b", cost=100))
        model.may_go_on.set()
        return await asyncio.gather(*tasks)

    assert numbers(run(scenario)) == [[0], [1, 2, 3, 4, 5], [6], [7]]
    assert sorted(model.batches) == [1, 1, 1, 1, 2, 2]


def test_a_model_that_nobody_asks_is_not_held():
    async def scenario(batcher):
        model = Echo()
        held = weakref.ref(model)
        await batcher.submit(model, work(1))
        del model
        await asyncio.sleep(0.05)
        gc.collect()
        return held()

    assert run(scenario) is None


def test_the_queue_is_counted_when_it_is_looked_at():
    model, metrics = Echo(), Metrics()

    async def scenario(batcher):
        model.may_go_on.clear()
        tasks = await submitted(batcher, model, work(0))
        tasks += await submitted(batcher, model, work(1), work(2, 3))
        during = metrics.text()
        model.may_go_on.set()
        await asyncio.gather(*tasks)
        return during, metrics.text()

    during, after = run(scenario, metrics=metrics)
    assert b"tfpt_queue_examples 3.0" in during and b"tfpt_queue_examples 0.0" in after


def test_the_wait_ends_when_nobody_comes_any_more():
    async def scenario(batcher):
        with batcher.preparing():
            (task,) = await submitted(batcher, Echo(), work(1))
            started = time.monotonic()
        await task
        return time.monotonic() - started

    assert run(scenario, wait=10.0) < 5


def test_a_full_queue_says_so_and_takes_more_when_there_is_room():
    model = Echo()

    async def scenario(batcher):
        model.may_go_on.clear()
        tasks = await submitted(batcher, model, work(0))
        tasks += await submitted(batcher, model, work(*range(8)))
        with pytest.raises(Refusal, match="8 examples are waiting already") as refusal:
            await batcher.submit(model, work(9))
        assert refusal.value.code is Code.UNAVAILABLE
        model.may_go_on.set()
        await asyncio.gather(*tasks)
        return await batcher.submit(model, work(9))

    assert run(scenario, queue=8)["x"].tolist() == [9]


def test_what_nobody_waits_for_is_not_computed():
    model = Echo()

    async def scenario(batcher):
        model.may_go_on.clear()
        first, gone, last = await submitted(batcher, model, work(0), work(1), work(2, lane="b"))
        gone.cancel()
        await asyncio.sleep(0.05)
        model.may_go_on.set()
        await asyncio.gather(first, last)
        return batcher

    run(scenario, batch_size=1)
    assert model.batches == [1, 1]


def test_batch_sizes():
    assert batch_sizes(1) == (1,)
    assert batch_sizes(8) == (1, 2, 4, 8)
    assert batch_sizes(20) == (1, 2, 4, 8, 16, 20)
