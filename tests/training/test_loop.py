"""The loop on a linear model: what an update is made of, and how a stage begins, ends and goes on."""

import dataclasses
import io
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Optim, Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.tasks import Primary, Task
from tfpt.training.averages import Averages
from tfpt.training.checkpoints import Checkpoints, restore
from tfpt.training.loop import Hooks, Progress, Stage, compiled_steps, is_better, train_stage
from tfpt.training.plan import TrainingPlan, training_plan
from tfpt.training.updates import RateGroup, Updates

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(11, 3)).astype("float32")
Y = RANDOM.normal(size=(11,)).astype("float32")


class Line(Task):
    primary = Primary("error", higher_is_better=False)

    def losses(self, outputs, targets):
        return tf.square(outputs[:, 0] - targets)


def line(*, l2=0.0):
    regulariser = keras.regularizers.L2(l2) if l2 else None
    inputs = keras.Input((3,))
    start = keras.initializers.Constant([[0.5], [-1.0], [2.0]])
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=start, kernel_regularizer=regulariser)(inputs))


def batches(rows, *, bad=(), batch_size):
    def batch(row):
        k = tf.where(row < 0, -row - 1, row)
        ok = tf.reduce_all(k[:, None] != tf.constant([*bad, -1], tf.int64)[None], axis=1)
        x = tf.where(ok[:, None], tf.gather(X, k), 1e3)
        weight = tf.cast((row >= 0) & ok, tf.float32)
        return {"inputs": x, "targets": tf.gather(Y, k), "weight": weight, "example": k, "ok": ok}

    signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((batch_size,), tf.int64))
    return tf.data.Dataset.from_generator(rows, output_signature=signature).map(lambda epoch, row: batch(row))


def updates_of(model, *, steps=10, rate=0.1, **optim):
    options = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0, "warmup": 0.0, **optim}
    return Updates(
        [RateGroup(1.0, tuple(model.trainable_variables))], Optim(**options), learning_rate=rate, steps=steps
    )


def one_update(row, *, accumulate=1, bad=(), l2=0.0):
    """Returns weights after one update on a row, the loss sum, the weight sum and the failed examples."""
    model = line(l2=l2)
    data = batches(lambda: iter([(0, np.array(row, np.int64))]), bad=bad, batch_size=len(row))
    call = compiled_steps(Line(), model, updates_of(model, schedule="constant"), None, accumulate=accumulate)
    losses, weights, failed, *_ = call(iter(data), tf.constant(1))
    return [v.numpy() for v in model.trainable_variables], float(losses[0]), float(weights[0]), failed.numpy()


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("row", [[0, 1, 2, 3, 4, 5], [4, 3, 9, ~9, ~4, ~3]])
def test_parts_that_are_accumulated_equal_one_batch(row, l2):
    whole, loss, weight, _ = one_update(row, l2=l2)
    for parts in (2, 3):
        found = one_update(row, accumulate=parts, l2=l2)
        assert_close(found[0], whole)
        assert found[1:3] == (pytest.approx(loss, rel=1e-6), weight)


def test_an_update_is_the_gradient_of_the_mean_loss():
    (kernel, bias), loss, weight, _ = one_update([0, 1, 2])
    start = np.array([0.5, -1.0, 2.0])
    error = X[:3] @ start - Y[:3]
    np.testing.assert_allclose(kernel[:, 0], start - 0.1 * 2 * (error[:, None] * X[:3]).mean(0), rtol=1e-5)
    np.testing.assert_allclose(bias, -0.1 * 2 * error.mean(), rtol=1e-5)
    assert (loss, weight) == (pytest.approx((error**2).sum(), rel=1e-5), 3)


def test_fillers_train_nothing():
    assert_close(one_update([7, 2, ~7, ~2, ~7])[0], one_update([7, 2])[0])


def test_an_example_that_could_not_be_read_trains_nothing_and_is_told():
    found, _, weight, failed = one_update([7, 5, 2], bad=[5])
    assert_close(found, one_update([7, 2])[0])
    assert weight == 2
    assert failed.tolist() == [-1, 5, -1]


class Counted(Line):
    """Counts the updates that it was told of."""

    def __init__(self):
        super().__init__()
        self.updates = tf.Variable(0)

    def after_update(self, model, step):
        self.updates.assign_add(1)


def test_an_update_that_float16_skips_moves_neither_averages_nor_what_follows_updates(monkeypatch):
    far = X.copy()
    far[5] = 1e18  # the loss is finite, and its gradient times the loss scale is not
    monkeypatch.setitem(globals(), "X", far)
    model, task = line(), Counted()
    groups = [RateGroup(1.0, tuple(model.trainable_variables))]
    optim = Optim(schedule="constant", warmup=0.0)
    updates = Updates(groups, optim, learning_rate=0.1, steps=3, loss_scaling=True)
    averages = Averages(model.variables, decay=0.5)
    call = compiled_steps(task, model, updates, averages, accumulate=1)
    rows = iter(batches(lambda: iter([(0, np.array([k, 1], np.int64)) for k in (5, 2, 5)]), batch_size=2))

    def seen():
        kept = [*model.variables, *averages.state, *updates.optimizers[0].variables]
        return [v.numpy() for v in kept], int(task.updates)

    start, found = seen(), []
    for _ in range(3):
        losses, *_ = call(rows, tf.constant(1))
        assert np.isfinite(losses.numpy()).all()
        found.append(seen())
    assert [count for _, count in found] == [0, 1, 1]
    assert_equal(found[0][0], start[0])
    assert not np.array_equal(found[1][0][0], start[0][0])
    assert not np.array_equal(found[1][0][2], start[0][2])
    assert_equal(found[2][0], found[1][0])


@dataclasses.dataclass
class Bench:
    """A stage and what the loop told while it ran."""

    folder: object
    scores: list = dataclasses.field(default_factory=list)
    rows: list = dataclasses.field(default_factory=list)
    failed: list = dataclasses.field(default_factory=list)
    stop_at: int = 0
    stop_in: str = "row"
    model: keras.Model = None
    progress: Progress = None

    def run(
        self, *, epochs=3, steps=None, options=None, rate=0.1, ema=0.0, evaluate=True, progress=None, bad=(), y=None
    ):
        options = options or Train(batch_size=4)
        per_epoch = -(-len(X) // options.batch_size)
        steps = steps or epochs * per_epoch
        self.model = line()
        updates = updates_of(self.model, steps=steps, rate=rate, momentum=0.9)
        averages = Averages(self.model.variables, decay=ema) if ema else None
        stage = Stage(
            name="head",
            model=self.model,
            primary=Line.primary,
            task=Line(),
            updates=updates,
            averages=averages,
            batches=lambda rows: batches(rows, bad=bad, batch_size=options.batch_size),
            plan=TrainingPlan(examples=np.arange(len(X)), batch_size=options.batch_size, seed=options.seed),
            epochs=epochs,
            steps=steps,
            evaluate=self._evaluate if evaluate else None,
        )
        self.saver = Checkpoints(self.folder, keep=options.keep_checkpoints)
        self.console = console = Console(stream=io.StringIO())
        saved = self.saver.latest(console=console)
        if saved:
            values = {**saved.state, "pending": [tuple(pair) for pair in saved.state["pending"]]}
            self.progress = Progress(**values)
            restore(saved.folder, stage.variables())
        else:
            self.progress = Progress()
        self.evaluated = []
        hooks = Hooks(
            begin=lambda rows: None,
            row=self._row,
            status=lambda progress: self._press(progress.step, "status"),
            failed=lambda examples: self.failed.extend(examples.tolist()),
        )
        train_stage(stage, self.progress, options, self.saver, console, hooks)
        self.final = [v.numpy() for v in stage.variables()]
        return [v.numpy() for v in self.model.variables]

    def _row(self, row):
        self.rows.append(row)
        if row["split"] == "train":
            self._press(row["step"], "row")

    def _press(self, step, hook):
        """Presses Ctrl-C once, at `stop_at`."""
        if self.stop_at and step >= self.stop_at and hook == self.stop_in:
            self.stop_at = 0
            os.kill(os.getpid(), signal.SIGINT)

    def _evaluate(self, pressed, console):
        self._press(self.progress.step, "evaluation")
        if stop := pressed():
            raise stop
        self.evaluated.append([v.numpy() for v in self.model.variables])
        at = len([row for row in self.progress.history if row["split"] == "validation"])
        error = self.scores[at] if at < len(self.scores) else 10.0 - at
        return {"loss": error, "error": error}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "checkpoints")


def test_the_weights_end_as_they_were_at_the_best_evaluation(bench):
    bench.scores = [3.0, 1.0, 2.0]
    weights = bench.run(epochs=3)
    assert_equal(weights, bench.evaluated[1])
    assert bench.progress.best == {"loss": 1.0, "error": 1.0, "total_steps": 6}
    assert [row["best"] for row in bench.rows if row["split"] == "validation"] == [True, True, False]


def test_the_best_weights_of_an_abandoned_course_are_never_taken(bench):
    bench.scores = [3.0, 1.0, 2.0]
    stale = [tf.fill(v.shape, 7.0) for v in line().variables]
    for order in ((0, 9), (0, 500), (1, 0)):
        Checkpoints(bench.folder, keep=9).save(order, [tf.Variable(v) for v in stale], {}, name="best")
    weights = bench.run(epochs=3, options=Train(batch_size=4, keep_checkpoints=9))
    assert_equal(weights, bench.evaluated[1])


def test_best_weights_that_are_damaged_are_said_and_the_last_ones_are_used(bench):
    bench.scores = [1.0, 2.0]
    damage, row = [], bench._row

    def after_the_best(values):
        row(values)
        if values["split"] == "validation" and values["best"]:
            (file,) = bench.folder.glob("best-*/variables.index")
            damage.append(file.write_bytes(b""))

    bench._row = after_the_best
    weights = bench.run(epochs=2)
    assert damage
    assert_equal(weights, bench.evaluated[1])
    assert "best weights is damaged; the stage's last weights are used" in bench.console.stream.getvalue()


def test_the_best_weights_are_averages_where_there_are_some(bench):
    bench.scores = [3.0, 1.0, 2.0]
    weights = bench.run(epochs=3, ema=0.5)
    raw = Bench(bench.folder.parent / "raw", scores=bench.scores)
    assert_equal(weights, bench.evaluated[1])
    assert not np.array_equal(weights[0], raw.run(epochs=3)[0])


def test_without_validation_the_averages_are_the_outcome(bench):
    weights = bench.run(epochs=3, ema=0.5, evaluate=False)
    raw = Bench(bench.folder.parent / "raw").run(epochs=3, evaluate=False)
    assert not np.array_equal(weights[0], raw[0])
    assert_equal(weights, bench.final[-3:-1])


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_patience_ends_a_stage(bench):
    bench.scores = [3.0, 1.0, 2.0, 2.0, 0.5]
    weights = bench.run(epochs=9, options=Train(batch_size=4, patience=2))
    assert bench.progress.step == 4 * 3
    assert_equal(weights, bench.evaluated[1])


def test_a_stage_that_patience_ended_does_not_go_on_when_it_is_started_again(bench):
    bench.scores = [3.0, 1.0, 2.0, 2.0, 0.5]
    options = Train(batch_size=4, patience=2)
    weights = bench.run(epochs=9, options=options)
    again = Bench(bench.folder, scores=bench.scores)
    assert_equal(again.run(epochs=9, options=options), weights)
    assert again.progress.step == 4 * 3


SETTINGS = {"epochs": 3, "ema": 0.9}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A stage that was never stopped, and its weights."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    return bench, bench.run(**SETTINGS)


@pytest.mark.parametrize(
    ("hook", "stop_at", "stops"),
    # what is pressed after the state was saved stops after the next update, or at the end of the stage
    [
        *(("row", 1, 1), ("row", 5, 5), ("row", 6, 6), ("row", 9, 9)),
        *(("status", 4, 5), ("status", 9, 9), ("evaluation", 3, 3), ("evaluation", 9, 9)),
    ],
)
def test_a_stage_that_was_stopped_goes_on_bit_equal(bench, whole, hook, stop_at, stops):
    bench.stop_at, bench.stop_in = stop_at, hook
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        bench.run(**SETTINGS)
    assert signal.getsignal(signal.SIGINT) is before
    saved = bench.saver.latest(console=bench.console)
    assert (saved.state["step"], bench.progress.step) == (stops, stops)
    again = Bench(bench.folder)
    wanted, weights = whole
    assert_equal(again.run(**SETTINGS), weights)
    assert_equal(again.final, wanted.final)
    assert untimed(again.progress.history) == untimed(wanted.progress.history)


def untimed(history):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "examples_per_second", "evaluation_seconds")}
        for row in history
    ]


def test_steps_bound_a_stage_and_it_is_evaluated_at_its_end(bench):
    bench.run(epochs=3, steps=4)
    assert bench.progress.step == bench.progress.total_steps == 4
    assert [row["step"] for row in bench.rows if row["split"] == "validation"] == [3, 4]


def test_evaluate_every_and_checkpoint_steps_are_kept_whatever_the_calls(bench):
    options = Train(batch_size=4, evaluate_every=4, checkpoint_steps=5, keep_checkpoints=50)
    bench.run(epochs=4, options=options)
    assert [row["step"] for row in bench.rows if row["split"] == "validation"] == [4, 8, 12]
    saved = sorted(int(f.name[-10:]) for f in bench.folder.glob("step-*"))
    assert saved == [3, 5, 6, 9, 10, 12]  # ends of epochs, too


def test_a_loss_that_is_no_number_is_said_with_the_way_out(bench):
    with pytest.raises(UserError, match=r"The loss became (nan|inf).*stage head.*--optim.learning_rate=1e\+20"):
        bench.run(epochs=50, rate=1e20)
    for folder in bench.folder.glob("step-*"):
        assert int(folder.name[-10:]) < bench.progress.step


def test_failed_examples_are_told_once_a_step(bench):
    bench.run(epochs=2, bad=[3, 5])
    assert sorted(bench.failed) == [3, 3, 5, 5]


def test_training_rows_hold_the_mean_since_the_last_row(bench):
    bench.run(epochs=1, evaluate=False)
    rows = [row for row in bench.rows if row["split"] == "train"]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows == bench.progress.history
    first = training_plan(np.arange(len(X)), batch_size=4, seed=0, epoch=0)[0]
    error = X[first] @ [0.5, -1.0, 2.0] - Y[first]
    assert rows[0]["loss"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert rows[0]["learning_rate"] == pytest.approx(0.1)
    assert (rows[-1]["epoch"], rows[-1]["stage"]) == (1.0, "head")


@pytest.mark.parametrize(
    ("new", "old", "higher", "better"),
    [
        ((0.9, 1.0), (0.8, 0.5), True, True),
        ((0.9, 1.0), (0.8, 0.5), False, False),
        ((0.9, 1.0), (0.9, 2.0), True, True),
        ((0.9, 2.0), (0.9, 1.0), False, False),
        ((float("nan"), 1.0), (0.9, 1.0), True, False),
        ((float("nan"), 1.0), (0.9, 1.0), False, False),
        ((0.9, 1.0), (float("nan"), 1.0), True, True),
        ((0.9, 1.0), (float("nan"), 1.0), False, True),
    ],
)
def test_what_is_better(new, old, higher, better):
    metrics = [dict(zip(("m", "loss"), values, strict=True)) for values in (new, old)]
    assert is_better(*metrics, Primary("m", higher_is_better=higher)) is better
