"""A batch that does not fit into memory goes through the model in more parts. The device's error is made up here: no GPU."""

import numpy as np
import pytest
import tensorflow as tf
from test_loop import Bench, assert_close, assert_equal, untimed

from tfpt.config import Train
from tfpt.errors import UserError
from tfpt.training import loop
from tfpt.training.memory import more_parts, parts_of
from tfpt.training.plan import TrainingPlan
from tfpt.training.progress import Progress


@pytest.fixture
def small_memory(monkeypatch):
    """Makes every call fail, at its end, that has fewer parts than fit, from a step on; returns the parts that were tried."""
    tried = []

    def install(fits, *, from_step=0):
        real = loop.compiled_steps

        def compiled(task, model, updates, averages, *, accumulate):
            call = real(task, model, updates, averages, accumulate=accumulate)
            tried.append(accumulate)

            def limited(iterator, count):
                found = call(iterator, count)
                if accumulate < fits and int(updates.optimizers[0].iterations.value) > from_step:
                    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nat all")
                return found

            return limited

        monkeypatch.setattr(loop, "compiled_steps", compiled)
        return tried

    return install


OPTIONS = Train(batch_size=4, checkpoint_steps=1)


@pytest.fixture
def begun(tmp_path):
    """A stage whose beginning was saved, as that of every run is."""

    def begun(name):
        bench = Bench(tmp_path / name)
        with pytest.raises(KeyboardInterrupt):
            bench.stop_at = 1
            bench.run(options=OPTIONS)
        return Bench(bench.folder)

    return begun


@pytest.mark.parametrize("from_step", [0, 4])
def test_updates_stay_the_same_in_more_parts_and_that_is_said(begun, small_memory, from_step):
    plain, bench = begun("plain"), begun("divided")
    weights = plain.run(options=OPTIONS)
    tried = small_memory(4, from_step=from_step)
    assert_close(bench.run(options=OPTIONS), weights)
    assert tried == [1, 2, 4]
    assert bench.progress.accumulate == 4
    assert_same_history(bench, plain)
    said = bench.console.stream.getvalue()
    assert "warning: Out of memory: each batch goes through the model in 4 parts from here" in said
    assert "--train.accumulate=4" in said


def assert_same_history(bench, other):
    ours, theirs = untimed(bench.progress.history), untimed(other.progress.history)
    assert [row["total_steps"] for row in ours] == [row["total_steps"] for row in theirs]
    for one, same in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(same["loss"], rel=1e-5)


def test_a_run_that_is_stopped_afterwards_goes_on_in_as_many_parts_bit_equal(begun, small_memory):
    whole, stopped = begun("whole"), begun("stopped")
    tried = small_memory(2)
    weights = whole.run(options=OPTIONS)
    stopped.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        stopped.run(options=OPTIONS)
    tried.clear()
    again = Bench(stopped.folder)
    assert_equal(again.run(options=OPTIONS), weights)
    assert_equal(again.final, whole.final)
    assert tried == [2]


def test_a_later_stage_keeps_the_parts():
    assert Progress(accumulate=4).next_stage(1, epochs_before=1).accumulate == 4


def test_a_batch_of_one_example_a_part_cannot_be_divided(begun, small_memory):
    bench = begun("one")
    small_memory(99)
    with pytest.raises(
        UserError, match=r"--train.batch_size=4 in 4 parts, and 8 do not divide it: write --train.batch_size=2"
    ):
        bench.run(options=OPTIONS)


def test_before_anything_was_saved_the_way_out_is_said(tmp_path, small_memory):
    small_memory(2)
    with pytest.raises(UserError, match=r"Out of memory: write --train.accumulate=2"):
        Bench(tmp_path).run(options=OPTIONS)


PLAN = TrainingPlan(examples=np.arange(24), batch_size=24, seed=0)
TEXTS = TrainingPlan(examples=np.arange(24), batch_size=4, seed=0, lengths=np.arange(1, 25), tokens=96, multiple=2)


def test_replicas_share_each_part():
    assert more_parts(PLAN, accumulate=1, replicas=4, workers=1) == 2
    with pytest.raises(UserError, match="do not divide"):
        more_parts(PLAN, accumulate=2, replicas=4, workers=1)


def test_a_run_that_goes_on_on_several_devices_has_as_many_parts_as_they_can_share():
    assert parts_of(PLAN, wanted=8, least=1, replicas=1) == 8
    assert parts_of(PLAN, wanted=8, least=1, replicas=4) == 2
    assert parts_of(PLAN, wanted=24, least=3, replicas=4) == 6
    assert parts_of(PLAN, wanted=0, least=3, replicas=4) == 3
    assert parts_of(TEXTS, wanted=8, least=1, replicas=3) == 8  # its rows are filled up


def test_several_workers_are_told_what_to_write():
    with pytest.raises(UserError, match=r"write --train.accumulate=2, which takes half the memory, on all workers"):
        more_parts(PLAN, accumulate=1, replicas=2, workers=2)


def test_rows_of_a_token_budget_are_filled_up_to_whole_parts():
    assert more_parts(TEXTS, accumulate=2, replicas=1, workers=1) == 4
    with pytest.raises(UserError, match=r"--input.tokens_per_batch=96: write a smaller one"):
        more_parts(TEXTS, accumulate=64, replicas=1, workers=1)
    stage = type("Stage", (), {"plan": TEXTS, "steps": TEXTS.steps})
    plain, whole = ([row for _, row in loop._rows(stage, Progress(), whole=parts)] for parts in (2, 16))
    assert not all(len(row) % 16 == 0 for row in plain) and all(len(row) % 16 == 0 for row in whole)
    for row, filled in zip(plain, whole, strict=True):
        assert filled[: len(row)].tolist() == row.tolist() and all(filled[len(row) :] < 0)
