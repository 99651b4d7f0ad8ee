"""How a global batch is shared, who decides, and what is refused; `tests/survival` trains with several replicas."""

import contextlib
import hashlib
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import hub_modules

from tfpt.config import Runtime, Train
from tfpt.errors import Preempted, UserError
from tfpt.layers.hub_module import HubModule
from tfpt.training import strategies
from tfpt.training.follower import Follower, Silent
from tfpt.training.plan import TrainingPlan
from tfpt.training.strategies import Together, check, slice_of_replica, synchronise_batch_norm


@pytest.mark.parametrize("static", [True, False])
def test_a_part_holds_the_same_examples_over_all_replicas_as_on_one_device(static):
    batch = {"inputs": tf.reshape(tf.range(24), (12, 2)), "weight": tf.range(12)}
    spec = {name: tf.TensorSpec([12 if static else None, *v.shape[1:]], v.dtype) for name, v in batch.items()}
    cut = tf.function(
        lambda values, replica: slice_of_replica(values, replica, replicas=3, parts=2),
        input_signature=[spec, tf.TensorSpec((), tf.int32)],
    )
    slices = [cut(batch, tf.constant(replica)) for replica in range(3)]
    assert [one["weight"].numpy().tolist() for one in slices] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert [one["inputs"].numpy()[:, 0].tolist() for one in slices] == [[0, 2, 12, 14], [4, 6, 16, 18], [8, 10, 20, 22]]
    for part in range(2):
        held = sorted(k for one in slices for k in np.split(one["weight"].numpy(), 2)[part])
        assert held == list(range(6 * part, 6 * part + 6))


def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can():
    check(Train(batch_size=30), replicas=1, precision="float16")
    check(Train(batch_size=32, accumulate=2), replicas=4, precision="bfloat16")
    with pytest.raises(UserError, match=r"--train.batch_size=30 .* shared by 4; write 32"):
        check(Train(batch_size=30), replicas=4, precision="float32")
    with pytest.raises(UserError, match=r"shared by 4, 2 parts each; write 8"):
        check(Train(batch_size=4, accumulate=2), replicas=4, precision="float32")
    with pytest.raises(UserError, match=r"--train.precision=float16 trains on one device, and there are 2 replicas"):
        check(Train(batch_size=32), replicas=2, precision="float16")


def test_rows_hold_the_same_examples_however_many_replicas_there_are():
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    made = [
        TrainingPlan(examples=np.arange(50), batch_size=8, seed=3, lengths=lengths, tokens=64, multiple=2, replicas=n)
        for n in (1, 4)
    ]
    one, four = (plan.rows(1) for plan in made)
    assert all(len(row) % 8 == 0 for row in four) and not all(len(row) % 8 == 0 for row in one)
    assert [sorted(row[row >= 0]) for row in one] == [sorted(row[row >= 0]) for row in four]


def test_one_process_decides_for_itself():
    together = Together(tf.distribute.get_strategy())
    stop = KeyboardInterrupt()
    assert (together.replicas, together.workers, together.is_chief) == (1, 1, True)
    assert together.agree(pace=7, timed=True, stop=stop) == (7, True, stop)
    assert together.of_chief({"a": 0.5}) == {"a": 0.5}
    with together.scope(), together.chief_first():
        together.wait()
        assert not tf.distribute.has_strategy()
    assert "replicas" not in together.device_name()


@pytest.fixture
def clean(monkeypatch):
    """No cluster in the environment, and nothing started."""
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(strategies, "_started", [])
    strategies._made.cache_clear()
    yield monkeypatch
    strategies._made.cache_clear()


def test_auto_is_one_device_here(clean):
    together = strategies.start(Runtime())
    assert together.replicas == 1
    assert strategies.current() is together is strategies.start(Runtime(threads=3))


def test_nothing_started_is_one_device(clean):
    assert strategies.current().replicas == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "multi_worker"}, "needs --runtime.workers=HOST:PORT"),
        ({"workers": ("a:1", "b:2")}, r"--runtime.worker=-1: each of the 2 processes .* needs its own number"),
        ({"workers": ("a:1", "b:2"), "worker": 2}, "--runtime.worker=2"),
        ({"strategy": "mirrored", "replicas": 2}, "--runtime.replicas=2: TensorFlow already runs in this process"),
        (
            {"strategy": "tpu", "tpu": "grpc://127.0.0.1"},
            r"--runtime.strategy=tpu: no TPU answers as --runtime.tpu=grpc.*docs/tpu.md",
        ),
    ],
)
def test_what_is_not_there_is_said(clean, options, sentence):
    tf.constant(1.0) + 1.0  # TensorFlow runs
    if options.get("tpu"):

        class Resolver:
            @staticmethod
            def connect(tpu):
                raise ValueError("no such machine\nat all")

        clean.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
    with pytest.raises(UserError, match=sentence):
        strategies.start(Runtime(**options))


def test_workers_become_a_cluster(clean):
    made = []
    clean.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda cluster_resolver: made.append(cluster_resolver))
    strategies._auto(workers=("a:1", "b:2"), worker=1, replicas=0, tpu="")
    assert made[0].cluster_spec().as_dict() == {"worker": ["a:1", "b:2"]}
    assert (made[0].task_type, made[0].task_id) == ("worker", 1)


def test_a_worker_may_be_silent_for_a_minute(clean):
    """TensorFlow's own bound is ten seconds: a busy machine, or one that was stopped for a moment, lost the whole job."""
    from tensorflow.python.eager import context

    clean.setattr(context.context(), "_coordination_service_config", None)

    def as_tensorflow_does(cluster_resolver):
        context.context().configure_coordination_service(service_type="standalone", service_leader="/job:worker/task:0")

    clean.setattr(tf.distribute, "MultiWorkerMirroredStrategy", as_tensorflow_does)
    strategies._multi_worker(workers=("a:1", "b:2"), worker=1, replicas=0)
    made = context.context().coordination_service
    assert (made.heartbeat_timeout_in_ms, made.service_leader) == (60_000, "/job:worker/task:0")
    assert "configure_coordination_service" not in vars(context.context())


def test_tf_config_alone_is_enough(clean):
    made = []
    clean.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda cluster_resolver: made.append(cluster_resolver))
    clean.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}})
    )
    strategies._auto(workers=(), worker=-1, replicas=0, tpu="")
    assert made[0].cluster_spec().as_dict() == {"worker": ["a:1", "b:2"]}
    assert (made[0].task_type, made[0].task_id) == ("worker", 1)
    clean.setenv("TF_CONFIG", "{")
    assert strategies._cluster_size() == 1


@pytest.mark.parametrize(("kind", "index", "place"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_the_chief_of_tf_config_is_the_first_worker(clean, kind, index, place):
    cluster = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
    clean.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
    assert strategies._of_tf_config() == (["a:1", "b:2", "c:3"], place)
    assert strategies._cluster_size() == 3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{", "TF_CONFIG is not"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG is not"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "worker", "index": 0}}',
            "TF_CONFIG names ps",
        ),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}', "TF_CONFIG names evaluator"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "TF_CONFIG names worker 1"),
    ],
)
def test_a_tf_config_that_is_no_cluster_of_workers_is_refused(clean, given, sentence):
    clean.setenv("TF_CONFIG", given)
    with pytest.raises(UserError, match=sentence):
        strategies._of_tf_config()


class Second(Together):
    """The second of two processes, whose first has found something."""

    def __init__(self, chief):
        self.workers, self.worker, self.replicas = 2, 1, 2
        self._chief = chief

    def _total(self, values):
        return values + tf.constant([self._chief] if values.numpy()[0] == 0 and self._chief else [0.0], tf.float64)


def test_processes_that_do_not_have_the_same_do_not_go_on():
    number = float(int.from_bytes(hashlib.blake2b(b"one", digest_size=4).digest(), "big"))
    with pytest.raises(UserError, match="not the same"):
        Second(number).check_alike("another", "not the same")
    Together(tf.distribute.get_strategy()).check_alike("alone", "not the same")


def test_slurm_names_the_cluster(clean):
    for name, value in (("PROCID", "1"), ("STEP_NODELIST", "n[1-2]"), ("STEP_NUM_TASKS", "2"), ("NTASKS", "2")):
        clean.setenv(f"SLURM_{name}", value)
    clean.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")
    clean.setenv("CUDA_VISIBLE_DEVICES", "")
    made = []
    clean.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda cluster_resolver: made.append(cluster_resolver))
    strategies._multi_worker(workers=(), worker=-1, replicas=0)
    assert made[0].cluster_spec().as_dict() == {"worker": ["n1:8888", "n2:8888"]}
    assert made[0].task_id == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": ("node1",)}, "node1 is not HOST:PORT"),
        ({"workers": ("a:1",), "strategy": "mirrored"}, "workers: they need --runtime.strategy=multi_worker"),
        ({"replicas": -1}, "replicas: -1 is negative"),
    ],
)
def test_runtime_flags_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Runtime(**options)
    Runtime(workers=("node-1.cluster:2222", "[::1]:80"))


def test_batch_normalisation_is_synchronised_wherever_it_is():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((3,)), inner, keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    synchronise_batch_norm(model)
    assert [layer.synchronized for layer in (inner.layers[0], model.layers[1])] == [True, True]


def test_statistics_inside_a_saved_model_must_be_frozen(tmp_path):
    hub_modules.pictures(tmp_path / "module")
    module = HubModule(str(tmp_path / "module"), size=16)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, module(inputs))
    moving = [scope for scope in module.scopes if scope.statistics]
    assert moving
    with pytest.raises(
        UserError, match=r"--train.batch_norm: that of a SavedModel .* write frozen, or --runtime.strategy=one"
    ):
        synchronise_batch_norm(model)
    for scope in moving:
        scope.trainable = False
    synchronise_batch_norm(model)


def test_a_follower_leaves_no_trace(tmp_path):
    folder = Follower(tmp_path / "run")
    with folder.held():
        folder.begin_history([{"loss": 1.0}])
        folder.add_row({"loss": 1.0})
        folder.write_status("running")
        folder.write_json("data.json", {})
        folder.close()
    assert not folder.writes
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_speaks_and_keeps_a_log(tmp_path, capsys):
    console = Silent()
    console.set_log(tmp_path / "log.txt")
    console.say("36 examples")
    console.warn("look")
    with console.training("head", epochs=1, steps=1) as training:
        training.update(epoch=1, step=1, loss=0.5)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_all_processes_take_the_name_that_the_first_found(clean, tmp_path):
    """Worker 1 looks after worker 0 has made NAME-2."""
    from tfpt.config import Component, Experiment, Output
    from tfpt.training.run_folder import free_name

    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    clean.setattr(strategies, "current", lambda: type("Two", (), {"of_chief": lambda self, values: {"number": 2}})())
    parts = {kind: Component(kind=kind, name="x") for kind in ("task", "data")}
    output = Output(name="run", run_dir=str(tmp_path / "run"), model_dir="models", if_exists="new")
    made = free_name(
        Experiment(**parts, backbone={"trunk": Component(kind="backbone", name="x")}, output=output)
    ).output
    assert (made.name, made.run_dir, made.model_dir) == ("run-2", str(tmp_path / "run-2"), "models-2")


def test_at_the_end_an_error_only_says_that_not_all_were_heard_of(clean):
    together = Together(tf.distribute.get_strategy())
    assert together.leave()

    def fails():
        raise tf.errors.UnavailableError(None, None, "the first has gone")

    together.wait = fails
    assert not together.leave()


@pytest.fixture
def ends(monkeypatch, tmp_path):
    """`ends(writes=, finished=)` comes to the end of a run of which the others leave too early; returns what was done."""
    from tfpt import run

    def ends(*, writes, finished):
        done = []
        together = SimpleNamespace(losing_no_worker=contextlib.nullcontext, leave=lambda: done.append("leave"))
        folder = SimpleNamespace(
            writes=writes,
            path=tmp_path,
            write_status=lambda state, *more, **named: done.append(state),
            write_json=lambda *arguments: None,
            is_finished=lambda: finished,
        )
        monkeypatch.setattr(strategies, "current", lambda: together)
        trained = SimpleNamespace(progress=SimpleNamespace(history=[]))
        monkeypatch.setattr("tfpt.training.fit.train", lambda *arguments, **named: trained)
        monkeypatch.setattr(run, "publish", lambda *arguments: done.append("publish"))
        monkeypatch.setattr(run, "load_run", lambda *arguments: None)
        run._run(SimpleNamespace(experiment=None), folder, Silent(), None)
        return done

    return ends


def test_a_run_is_finished_before_its_first_worker_leaves(ends):
    assert ends(writes=True, finished=False) == ["running", "publish", "finished", "leave"]


def test_a_worker_that_hears_the_end_too_late_has_not_lost_another(ends):
    assert ends(writes=False, finished=True)[-1] == "leave"
    with pytest.raises(Preempted, match="another worker was lost"):
        ends(writes=False, finished=False)
