"""A batch that does not fit into memory goes through the model in more parts. The device's error is made up here: no GPU."""

import io

import numpy as np
import pytest
import tensorflow as tf
from test_loop import Bench, assert_close, assert_equal, untimed

from tfpt.config import Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import loop
from tfpt.training.memory import FittingBatches, more_parts, parts_of
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


@pytest.fixture
def small_measuring(monkeypatch):
    """Makes measuring fail with more than so many examples at a time; returns how many were tried."""
    tried = []

    def install(most):
        plain = FittingBatches.__init__

        def made(self, *arguments, **named):
            plain(self, *arguments, **named)
            self._whole, self._part = map(limited, (self._whole, self._part))

        def limited(call):
            def measured(batch):
                tried.append(len(batch["weight"]))
                if tried[-1] > most:
                    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nat all")
                return call(batch)

            return measured

        monkeypatch.setattr(FittingBatches, "__init__", made)
        return tried

    return install


def doubled(sizes):
    """Goes through batches of numbers with a function that doubles them."""
    screen = io.StringIO()
    numbers = tf.data.Dataset.range(sum(sizes))
    batches = [{"weight": k} for k in np.split(np.array(list(numbers.as_numpy_iterator())), np.cumsum(sizes)[:-1])]
    fitting = FittingBatches(
        lambda batch: 2 * batch["weight"], {"weight": tf.TensorSpec([sizes[0]], tf.int64)}, what="a test"
    )
    found = []
    for batch in batches:
        parts = fitting(tf.nest.map_structure(tf.constant, batch), Console(stream=screen))
        found += [(part["weight"].numpy().tolist(), made.numpy().tolist()) for part, made in parts]
    return found, fitting, screen.getvalue()


def test_what_fits_is_measured_whole():
    found, fitting, said = doubled([4, 4])
    assert [part for part, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (fitting.largest, said) == (None, "")


def test_a_batch_that_does_not_fit_is_measured_in_halves_from_then_on_and_that_is_said(small_measuring):
    tried = small_measuring(2)
    found, fitting, said = doubled([7, 7])
    assert [part for part, _ in found] == [[0], [1], [2], [3], [4], [5], [6], [7], [8], [9], [10], [11], [12], [13]]
    assert all(made == [2 * k for k in part] for part, made in found)
    assert tried[:2] == [7, 3] and set(tried[2:]) == {1} and fitting.largest == 1
    assert "Out of memory: a test takes 3 examples at a time from here." in said
    assert "Out of memory: a test takes 1 examples at a time from here." in said


def test_parts_need_not_divide_the_batch(small_measuring):
    tried = small_measuring(4)
    found, _, _ = doubled([8, 8])
    assert [len(part) for part, _ in found] == [4, 4, 4, 4] and tried == [8, 4, 4, 4, 4]
    found, _, _ = doubled([7, 7])
    assert [len(part) for part, _ in found] == [3, 3, 1, 3, 3, 1]
    assert [k for part, _ in found for k in part] == list(range(14))


def test_where_a_single_example_does_not_fit_the_way_out_is_said(small_measuring):
    small_measuring(0)
    with pytest.raises(
        UserError, match=r"a test does not fit with a single example; write a smaller --input.image_size"
    ):
        doubled([4])


def test_a_run_whose_validation_and_test_do_not_fit_measures_the_same(fit, pictures, tmp_path, small_measuring, capsys):
    settings = {"data": f"folder:{pictures}", "epochs": 0, "publish": False, "quiet": False}
    whole = fit(tmp_path / "whole", **settings)
    small_measuring(3)
    run = fit(tmp_path / "small", **settings)
    said = " ".join(capsys.readouterr().out.split())
    assert "Out of memory: validation takes" in said and "Out of memory: measuring on test takes" in said
    for name, found in run.metrics["test"].items():
        assert found["value"] == pytest.approx(whole.metrics["test"][name]["value"], abs=1e-5)
    assert [row["split"] for row in run.history] == [row["split"] for row in whole.history]
    for ours, theirs in zip(run.history, whole.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert (run.folder / "predictions.csv").read_text().count("\n") > 15
