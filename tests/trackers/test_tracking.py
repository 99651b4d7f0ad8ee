"""Following a run: what trackers are told after a kill, and when they cannot be reached."""

import io
import json
import sys
import threading
import types

import pytest
import tensorflow as tf

from tfpt import registry
from tfpt.config import Component, Experiment, Output, Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.trackers import Followed, Tracker
from tfpt.training import tracking
from tfpt.training.tracking import Tracking

ROWS = [
    {"split": "train", "total_steps": 2, "loss": 0.5, "stage": "head", "best": True},
    {"split": "train", "total_steps": 4, "loss": 0.4},
    {"split": "validation", "total_steps": 4, "accuracy": 0.75, "loss": float("nan")},
    {"split": "train", "total_steps": 6, "loss": 0.3},
]


@pytest.fixture
def follow(tmp_path):
    """Makes the tracking of a run: `follow("mlflow")` -> tracking, and what its console said."""

    def follow(*trackers, offline=False, **train):
        experiment = Experiment(
            task=Component.parse("task", "image_classification"),
            data=Component.parse("data", "digits"),
            backbone={"trunk": Component.parse("backbone", "tiny:conv")},
            train=Train(**train),
            output=Output(name="mine", trackers=trackers),
        )
        said = io.StringIO()
        return Tracking(experiment, tmp_path, console=Console(stream=said), offline=offline), said

    return follow


def board(folder):
    events = [
        tf.compat.v1.Event.FromString(record)
        for file in sorted((folder / "tensorboard").iterdir())
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    ]
    values = [(e.step, v) for e in events for v in e.summary.value]
    assert {v.metadata.plugin_data.plugin_name for _, v in values} == {"scalars"}  # else TensorBoard shows nothing
    return [(step, v.tag, round(float(tf.make_ndarray(v.tensor)), 4)) for step, v in values]


def test_tensorboard_has_no_row_twice_after_a_kill(follow, tmp_path):
    first, _ = follow("tensorboard")
    first.start([])
    for row in ROWS[:3]:
        first.add(row)
    # killed here; the checkpoint knows one row
    second, said = follow("tensorboard")
    second.start(ROWS[:1])
    for row in ROWS[1:]:
        second.add(row)
    second.finish("finished", {}, ROWS)
    assert board(tmp_path) == [
        (2, "train/loss", 0.5), (4, "train/loss", 0.4), (4, "validation/accuracy", 0.75), (6, "train/loss", 0.3),
    ]  # fmt: skip
    assert said.getvalue() == ""


def test_a_run_that_was_trained_before_is_told_from_its_history(follow, tmp_path):
    told, _ = follow("tensorboard")
    told.finish("finished", {}, ROWS)
    assert len(board(tmp_path)) == 4
    told, _ = follow("tensorboard")
    told.finish("failed", {}, [])  # nothing was trained: the log stays as it is
    assert len(board(tmp_path)) == 4


class Flaky(Tracker):
    """Stands for a server that can be away."""

    remote = True
    away = False
    calls: list = []
    thread = None

    def start(self, run, history):
        Flaky.thread = threading.current_thread()
        self.add({"start": len(history)})
        return run.identifier or "id-1"

    def add(self, row):
        if Flaky.away:
            raise ConnectionError("nobody\nanswers.")
        Flaky.calls.append(dict(row))

    def finish(self, state, results):
        self.add({"finish": state, **results})


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr(Flaky, "calls", [])
    monkeypatch.setattr(Flaky, "away", False)
    module = types.ModuleType("their.flaky")
    module.Flaky = Flaky
    monkeypatch.setitem(sys.modules, "their", types.ModuleType("their"))
    monkeypatch.setitem(sys.modules, "their.flaky", module)
    monkeypatch.setattr(tracking, "SECONDS_AT_THE_END", 20.0)
    return Flaky


RESULTS = {"test": {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}, "f1": {"value": None}}, "primary": "accuracy"}


def test_a_remote_tracker_has_a_thread_and_keeps_its_identifier(follow, flaky, tmp_path):
    told, _ = follow("their.flaky:x")
    told.start([])
    told.add(ROWS[0])
    told.finish("interrupted", {}, [])
    assert flaky.thread is not threading.main_thread()
    assert json.loads((tmp_path / tracking.FILE).read_text()) == {"their.flaky:x": "id-1"}
    (tmp_path / tracking.FILE).write_text('{"their.flaky:x": "id-7"}')
    told, _ = follow("their.flaky:x")
    told.start(ROWS[:1])
    told.finish("finished", RESULTS, ROWS[:1])
    assert json.loads((tmp_path / tracking.FILE).read_text()) == {"their.flaky:x": "id-7"}
    assert flaky.calls == [
        {"start": 0}, ROWS[0], {"finish": "interrupted"},
        {"start": 1}, {"finish": "finished", "test/accuracy": 0.9},
    ]  # fmt: skip


def test_a_tracker_that_cannot_be_reached_warns_once_and_is_tried_again_at_the_end(follow, flaky, tmp_path):
    flaky.away = True
    told, said = follow("tensorboard", "their.flaky")
    told.start([])
    for row in ROWS:
        told.add(row)
        told._lines[1].wait(20)
    told.finish("interrupted", {}, ROWS)
    assert said.getvalue().count("warning") == 1
    assert "--output.trackers=their.flaky: ConnectionError: nobody; training goes on without it." in said.getvalue()
    assert len(board(tmp_path)) == 4

    told, said = follow("their.flaky")
    told.start([])
    told.add(ROWS[0])
    told._lines[0].wait(20)
    flaky.away = False  # it is back
    told.add(ROWS[1])
    told.finish("finished", {}, ROWS[:2])
    assert flaky.calls == [{"start": 2}, {"finish": "finished"}]
    assert said.getvalue().count("warning") == 1


def test_training_does_not_wait_for_a_tracker(follow, flaky, monkeypatch):
    monkeypatch.setattr(tracking, "SECONDS_WHEN_STOPPED", 0.2)
    blocked = threading.Event()
    monkeypatch.setattr(flaky, "start", lambda self, run, history: blocked.wait(60) and "")
    told, said = follow("their.flaky")
    told.start([])
    for row in ROWS:
        told.add(row)
    told.finish("interrupted", {}, ROWS)
    assert "not everything had arrived after 0.2 s" in said.getvalue()
    blocked.set()


def test_what_is_not_there_is_said_before_training(follow, monkeypatch):
    with pytest.raises(
        UserError, match=r"--output\.trackers=comet: there is no such tracker; there are mlflow, tensorboard"
    ):
        follow("comet")
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'--output\.trackers=mlflow needs mlflow: pip install "tfpt\[mlflow\]"'):
        follow("mlflow")


@pytest.mark.parametrize("name", registry.names("tracker"))
def test_every_tracker_can_be_made_without_its_package(name):
    made = registry.find("tracker", name)("anything")
    assert isinstance(made, Tracker)
    assert bool(made.packages) == bool(made.extra)


# Stand-ins for the packages: what the trackers use of them, no more.


class FakeServer:
    """A tracking server of MLflow."""

    def __init__(self):
        self.runs, self.experiments, self.uri = {}, {}, None

    def module(self):
        mlflow, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
        mlflow.get_tracking_uri = lambda: "http://server"
        mlflow.MlflowClient = self.client
        entities.Param = lambda key, value: types.SimpleNamespace(key=key, value=value)
        entities.Metric = lambda key, value, timestamp, step: types.SimpleNamespace(key=key, value=value, step=step)
        return {"mlflow": mlflow, "mlflow.entities": entities}

    def client(self, tracking_uri):
        self.uri = tracking_uri
        return self

    def get_experiment_by_name(self, name):
        there = self.experiments.get(name)
        return types.SimpleNamespace(experiment_id=there) if there else None

    def create_experiment(self, name):
        self.experiments[name] = "7"
        return "7"

    def create_run(self, experiment_id, run_name):
        name = f"run{len(self.runs)}"
        self.runs[name] = {
            "experiment": experiment_id,
            "name": run_name,
            "metrics": [],
            "params": {},
            "status": "RUNNING",
        }
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=name))

    def log_batch(self, run, metrics=(), params=()):
        assert len(params) <= 100
        self.runs[run]["metrics"] += [(m.step, m.key, m.value) for m in metrics]
        self.runs[run]["params"] |= {p.key: p.value for p in params}

    def log_metric(self, run, key, value):
        self.runs[run]["metrics"].append((0, key, value))

    def get_metric_history(self, run, key):
        return [types.SimpleNamespace(step=step) for step, name, _ in self.runs[run]["metrics"] if name == key]

    def update_run(self, run, status):
        self.runs[run]["status"] = status

    set_terminated = update_run


def followed(folder, identifier="", offline=False):
    return Followed(folder=folder, name="mine", settings={"a.b": "1"}, identifier=identifier, offline=offline)


def told_twice(tracker, folder):
    """Follows a run that is killed after three rows and goes on from a checkpoint that knows one."""
    first = registry.find("tracker", tracker)("")
    identifier = first.start(followed(folder), [])
    for row in ROWS[:3]:
        first.add(row)
    second = registry.find("tracker", tracker)("")
    again = second.start(followed(folder, identifier), ROWS[:1])
    for row in ROWS[1:]:
        second.add(row)
    second.finish("finished", {"test/accuracy": 0.9})
    return identifier, again


def test_mlflow_goes_on_with_the_same_run_and_no_row_twice(monkeypatch, tmp_path):
    server = FakeServer()
    for name, module in server.module().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    identifier, again = told_twice("mlflow", tmp_path)
    assert (identifier, again, server.uri) == ("run0", "run0", "http://server")
    assert server.runs == {
        "run0": {
            "experiment": "7",
            "name": "mine",
            "params": {"a.b": "1"},
            "status": "FINISHED",
            "metrics": [
                (2, "train/loss", 0.5), (4, "train/loss", 0.4), (4, "validation/accuracy", 0.75), (6, "train/loss", 0.3),
                (0, "test/accuracy", 0.9),
            ],
        }
    }  # fmt: skip
    with pytest.raises(ConnectionError, match="--offline, and http://server is not on this machine"):
        registry.find("tracker", "mlflow")("").start(followed(tmp_path, offline=True), [])


class FakeWandb(types.ModuleType):
    """The package wandb: online runs are kept, offline ones are folders."""

    def __init__(self):
        super().__init__("wandb")
        self.kept, self.asked, self.key = {}, [], True
        self.Settings = dict

    def login(self, prompt):
        assert not prompt
        return self.key

    def init(self, *, id, dir, mode, **options):
        self.asked.append((mode, options["project"], options["resume"]))
        if mode == "offline":
            from pathlib import Path

            (Path(dir) / "wandb" / f"offline-run-{len(self.asked)}-{id}").mkdir(parents=True)
            self.kept[id] = []
        rows = self.kept.setdefault(id, [])
        return types.SimpleNamespace(
            id=id,
            step=len(rows),
            log=rows.append,
            summary={},
            define_metric=lambda name, step_metric: None,
            finish=lambda exit_code: None,
        )


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandb_goes_on_with_the_same_run_and_no_row_twice(monkeypatch, tmp_path, mode):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_MODE", mode)
    identifier, again = told_twice("wandb", tmp_path)
    assert identifier == again
    assert set(fake.asked) == {(mode, "tfpt", "allow")}
    assert fake.kept == {
        identifier: [
            {"total_steps": 2, "train/loss": 0.5},
            {"total_steps": 4, "train/loss": 0.4},
            {"total_steps": 4, "validation/accuracy": 0.75},
            {"total_steps": 6, "train/loss": 0.3},
        ]
    }
    if mode == "offline":
        assert [f.name for f in (tmp_path / "wandb").iterdir()] == [f"offline-run-2-{identifier}"]


def test_wandb_without_a_key_does_not_ask(monkeypatch, tmp_path):
    fake = FakeWandb()
    fake.key = False
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(PermissionError, match="there is no API key"):
        registry.find("tracker", "wandb")("").start(followed(tmp_path), [])
