"""The loss blows up: what is gone back to, what is passed over, and that a run which is stopped afterwards goes on exactly."""

import numpy as np
import pytest
import tensorflow as tf
import test_loop
from test_loop import SETTINGS, Bench, X, Y, assert_equal, untimed

from tfpt.config import Train
from tfpt.errors import UserError
from tfpt.training import checkpoints
from tfpt.training.blow_up import BlowUpError, check_losses, check_weights, recovery_notes
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.plan import TrainingPlan
from tfpt.training.progress import Progress
from tfpt.training.strategies import Together

OPTIONS = Train(batch_size=4, keep_checkpoints=9)
PLAN = TrainingPlan(examples=np.arange(len(X)), batch_size=4, seed=0)


@pytest.fixture
def poison(monkeypatch):
    """Multiplies the inputs of the rows at these places of the plan (epoch, number) by a factor."""

    def poison(places, factor=1e30):
        plain = test_loop.batches
        bad = [(epoch, PLAN.rows(epoch)[number]) for epoch, number in places]

        def poisoned(rows, *, bad_rows=bad, **options):
            def marked():
                for epoch, row in rows():
                    hit = any(epoch == e and np.array_equal(row, r) for e, r in bad_rows)
                    yield epoch, row, factor if hit else 1.0

            factors = tf.data.Dataset.from_generator(marked, output_signature=(*SIGNATURE, tf.TensorSpec(())))
            clean = plain(lambda: ((epoch, row) for epoch, row, _ in marked()), **options)
            pairs = tf.data.Dataset.zip(clean, factors.map(lambda epoch, row, f: f))
            return pairs.map(lambda batch, f: {**batch, "inputs": batch["inputs"] * f})

        monkeypatch.setattr(test_loop, "batches", poisoned)

    return poison


SIGNATURE = (tf.TensorSpec((), tf.int64), tf.TensorSpec((4,), tf.int64))


def by_hand(*, skipped, slower_from, epochs=3):
    """SGD with momentum over the plan without the rows at `skipped`, at half the rate from update `slower_from` on."""
    schedule = test_loop.updates_of(test_loop.line(), steps=3 * epochs, momentum=0.9).schedule
    rows = [row for epoch in range(epochs) for row in PLAN.rows(epoch)]
    kernel, bias, speed, updates = np.array([0.5, -1.0, 2.0]), 0.0, (np.zeros(3), 0.0), 0
    for place, row in enumerate(rows):
        if place in skipped:
            continue
        k = row[row >= 0]
        error = 2 * (X[k] @ kernel + bias - Y[k]) / len(k)
        rate = float(schedule(updates)) * (0.5 if updates >= slower_from else 1.0)
        speed = (0.9 * speed[0] - rate * (X[k].T @ error), 0.9 * speed[1] - rate * error.sum())
        kernel, bias, updates = kernel + speed[0], bias + speed[1], updates + 1
    return kernel, bias


@pytest.mark.parametrize("factor", [1e30, float("nan")])
def test_training_goes_back_past_the_batches_between_and_on_more_slowly(tmp_path, poison, factor):
    poison([(1, 1)], factor)
    bench = Bench(tmp_path)
    bench.run(epochs=3, options=OPTIONS, evaluate=False)
    (row,) = [row for row in bench.progress.history if row["split"] == "recovery"]
    assert (row["back_to"], row["step"], row["total_steps"]) == (3, 5, 5)
    assert (bench.progress.skipped, bench.progress.recoveries, bench.progress.rate_factor) == (2, 1, 0.5)
    assert bench.progress.step == 9
    kernel, bias = by_hand(skipped=(3, 4), slower_from=3)
    np.testing.assert_allclose(bench.model.get_weights()[0][:, 0], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(bench.model.get_weights()[1], bias, rtol=1e-4, atol=1e-5)
    said = bench.console.stream.getvalue()
    assert "warning: Stage head: the loss became" in said and "went back to update 3" in said
    rates = {row["step"]: row["learning_rate"] for row in bench.progress.history}
    assert rates[6] == pytest.approx(0.5 * 0.1 * 0.5 * (1 + np.cos(np.pi * 3 / 9)), rel=1e-4)  # its fourth update


def test_the_best_weights_of_the_checkpoint_that_is_gone_back_to_are_still_there(tmp_path, poison):
    poison([(1, 2)])
    bench = Bench(tmp_path)
    errors = iter([9.0, 8.0, 1.0, 0.9, 0.8, 5.0, 5.0, 5.0, 5.0])  # the fourth and fifth are undone

    def evaluate(pressed, console):
        bench.evaluated.append([v.numpy() for v in bench.model.variables])
        error = next(errors)
        return {"loss": error, "error": error}

    bench._evaluate = evaluate
    weights = bench.run(options=Train(batch_size=4, keep_checkpoints=1, evaluate_every=1))
    assert (bench.progress.recoveries, bench.progress.best["total_steps"]) == (1, 3)
    assert_equal(weights, bench.evaluated[2])
    assert "damaged" not in bench.console.stream.getvalue()


def test_nothing_is_removed_before_all_processes_have_read_what_is_gone_back_to(tmp_path, poison, monkeypatch):
    events = []

    def tell(owner, name):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: (events.append(name), plain(*given, **named))[1])

    tell(checkpoints, "restore")
    tell(Together, "wait")
    tell(Checkpoints, "forget_after")
    tell(Checkpoints, "save")
    poison([(1, 1)])
    Bench(tmp_path).run(epochs=3, options=OPTIONS, evaluate=False)
    begin = events.index("restore")
    assert events[begin : begin + 4] == ["restore", "wait", "forget_after", "save"]


@pytest.mark.parametrize("stop_at", [5, 6, 8])
def test_a_run_that_is_stopped_after_a_recovery_goes_on_bit_equal(tmp_path, poison, stop_at):
    poison([(1, 1)])
    whole = Bench(tmp_path / "whole")
    weights = whole.run(options=OPTIONS, **SETTINGS)
    assert whole.progress.recoveries == 1
    bench = Bench(tmp_path / "stopped", stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        bench.run(options=OPTIONS, **SETTINGS)
    again = Bench(bench.folder)
    assert_equal(again.run(options=OPTIONS, **SETTINGS), weights)
    assert_equal(again.final, whole.final)
    assert untimed(again.progress.history) == untimed(whole.progress.history)


def test_the_tries_are_bounded_and_the_way_out_is_said(tmp_path, poison):
    poison([(0, 2), (1, 1), (2, 0), (3, 0)])
    with pytest.raises(
        UserError, match=r"The loss became (inf|nan) in stage head near step 3: lower --optim.learning_rate"
    ):
        Bench(tmp_path / "none").run(epochs=4, options=Train(batch_size=4, recoveries=0, checkpoint_steps=1))
    bench = Bench(tmp_path / "two")
    with pytest.raises(UserError, match=r"again, after 2 recoveries, in stage head near step 7"):
        bench.run(epochs=4, options=Train(batch_size=4, recoveries=2, checkpoint_steps=1))
    assert [row["step"] for row in bench.progress.history if row["split"] == "recovery"] == [3, 5]


@pytest.mark.parametrize(("spike", "recoveries"), [(0.0, 0), (50.0, 1)])
def test_a_spike_beyond_the_bound_is_a_blow_up(tmp_path, poison, spike, recoveries):
    poison([(2, 1)], 30.0)
    bench = Bench(tmp_path)
    bench.run(epochs=3, options=Train(batch_size=4, spike=spike), rate=0.01)
    assert bench.progress.recoveries == recoveries
    reasons = [row["reason"] for row in bench.progress.history if row["split"] == "recovery"]
    assert all("times the median before it" in reason for reason in reasons)


def test_a_spike_is_told_by_the_median_before_it():
    progress = Progress(step=7)
    check_losses(np.array([4.0, 2.0, 2.0, 400.0]), np.array([4.0, 2.0, 2.0, 4.0]), progress, spike=10)
    assert progress.recent == [1.0, 1.0, 1.0, 100.0]  # too few to tell
    check_losses(np.array([1.0]), np.array([1.0]), progress, spike=10)
    with pytest.raises(BlowUpError, match=r"the loss 10\.5 is 10.5 times the median before it") as found:
        check_losses(np.array([0.0, 9.0, 21.0]), np.array([0.0, 1.0, 2.0]), progress, spike=10)
    assert found.value.step == 10
    many = Progress()
    check_losses(np.arange(1.0, 31.0), np.ones(30), many, spike=10)
    assert many.recent == list(range(11, 31))


def test_weights_that_are_no_numbers_are_never_saved():
    good = [tf.Variable([1.0, 2.0]), tf.Variable([3])]
    check_weights(good, Progress())
    with pytest.raises(BlowUpError, match="weights became no numbers") as found:
        check_weights([*good, tf.Variable([1.0, float("inf")])], Progress(step=4))
    assert found.value.step == 4


def test_recoveries_are_told_in_the_report():
    row = {
        "stage": "head",
        "split": "recovery",
        "reason": "the loss became nan",
        "step": 5,
        "back_to": 3,
        "learning_rate": 1e-3,
    }
    (note,) = recovery_notes([{"split": "train"}, row])
    assert note.startswith("Stage head: the loss became nan at update 5; training went back to update 3")
