"""Two and four replicas, and two workers, train what one device trains."""

import json
import signal
import subprocess
import sys

import killed_runs as runs
import numpy as np
import pytest
import tensorflow as tf

TINY = [
    "--train.batch_size=8",
    "--train.batch_norm=train",
    "--train.accumulate=2",
    "--train.head_epochs=1",
    "--train.epochs=1",
    "--optim.name=sgd",
    "--optim.learning_rate=0.1",
    "--input.split=50,25,25",
    "--export.publish=false",
]
IMAGES = ["--backbone=tiny:conv", "--input.image_size=16", "--input.augment=flip|random_crop(pad=2)"]
TASKS = {
    "image_classification": ["--data=folder:{pictures}", *IMAGES, "--train.ema=0.5"],
    "image_regression": ["--data=csv:{measured}", *IMAGES],
    "text_classification": ["--data=csv:{texts}", "--backbone=tiny:transformer", "--input.tokens_per_batch=64"],
    "token_classification": ["--data=conll:{tagged}", "--backbone=toys.toy_words"],
    "question_answering": ["--data=squad:{asked}", "--backbone=toys.toy_words"],
}
"""Small data and a small backbone for every task in the registry."""


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    starter = runs.Starter(tmp_path_factory.mktemp("replicas"))
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def paths(starter, pictures):
    """Small data of every kind."""
    folder = starter.folder
    measured = folder / "measured.csv"
    files = sorted(pictures.glob("*/*.png"))
    measured.write_text("\n".join(["path,label", *(f"{file},{k / 10}" for k, file in enumerate(files))]) + "\n")
    tagged = folder / "tagged.txt"
    sentences = (f"w{k} O\nin O\nplace{k % 5} B-LOC\n" + "more O\n" * (k % 4) for k in range(32))
    tagged.write_text("\n".join(sentences))
    asked = folder / "asked.json"
    paragraphs = []
    for k in range(32):
        context = f"it is in place{k % 5} {'far ' * (k % 4)}away"
        answers = [{"text": f"place{k % 5}", "answer_start": 9}]
        paragraphs.append({"context": context, "qas": [{"id": str(k), "question": "where?", "answers": answers}]})
    asked.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    texts = runs.write_texts(folder / "texts.csv")
    return {"pictures": pictures, "measured": measured, "texts": texts, "tagged": tagged, "asked": asked}


@pytest.fixture(scope="module")
def trained(starter, paths):
    """`trained(task, "1" | "2 replicas" | "2 workers")` trains once and returns the run folder."""
    known = {}

    def trained(task, where, *more):
        key = (task, where, *more)
        if key not in known:
            run = starter.folder / "runs" / f"{task}-{where.replace(' ', '-')}-{len(known)}"
            argv = [f"--task={task}", *(flag.format(**paths) for flag in TASKS[task]), *TINY, *more]
            argv = [
                flag
                for k, flag in enumerate(argv)
                if flag.split("=")[0] not in {f.split("=")[0] for f in argv[k + 1 :]}
            ]
            count = int(where.split()[0])
            if where.endswith("workers"):
                went = starter.start_workers(argv, run, count=count)
            else:
                strategy = ["--runtime.strategy=mirrored", f"--runtime.replicas={count}"] if count > 1 else []
                went = starter.start([*argv, *strategy], run)
            assert (went["code"], set(went["others"])) in ((0, set()), (0, {0})), run.with_suffix(".out").read_text()
            known[key] = run
        return known[key]

    return trained


def variables(run, name):
    folder = max((run / "checkpoints").glob(f"{name}-??-*"))
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if key.startswith("variables/")}


def assert_equal_training(run, other, *, tolerance=1e-5):
    ours, theirs = map(runs.history_of, (run, other))
    assert [(row["split"], row["step"]) for row in ours] == [(row["split"], row["step"]) for row in theirs]
    for row, same in zip(ours, theirs, strict=True):
        assert row["loss"] == pytest.approx(same["loss"], abs=tolerance, rel=tolerance)
    for name in ("step", "final"):
        for key, value in variables(run, name).items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(
                    value, variables(other, name)[key], atol=tolerance, rtol=tolerance, err_msg=key
                )
            elif value.dtype != np.uint32:  # the state of seeds counts draws
                np.testing.assert_array_equal(value, variables(other, name)[key])
    measured, same = (json.loads((one / "metrics.json").read_text()) for one in (run, other))
    assert measured["examples"] == same["examples"]
    for metric, found in measured["test"].items():
        assert found["value"] == pytest.approx(same["test"][metric]["value"], abs=1e-4)


@pytest.mark.parametrize("where", ["2 replicas", "2 workers"])
def test_a_classifier_of_pictures_trains_the_same(where, trained):
    assert_equal_training(trained("image_classification", where), trained("image_classification", "1"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", ["2 replicas", "4 replicas", "2 workers"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_the_same(task, where, trained):
    whole = ["--train.accumulate=1"] if where.startswith("4") else []
    assert_equal_training(trained(task, where, *whole), trained(task, "1", *whole))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_adamw_has_the_same_losses(trained):
    more = ("--optim.name=adamw", "--optim.learning_rate=1e-3")
    ours, theirs = (runs.history_of(trained("text_classification", where, *more)) for where in ("2 replicas", "1"))
    for row, same in zip(ours, theirs, strict=True):
        assert row["loss"] == pytest.approx(same["loss"], abs=1e-4)


def test_every_task_is_tried():
    from tfpt import registry

    assert set(TASKS) == set(registry.names("task"))


MASKS = """
import tensorflow as tf, keras
from tfpt.config import Runtime
from tfpt.training import strategies
together = strategies.start(Runtime(strategy="mirrored", replicas=2))
assert together.replicas == 2 and together.is_chief
with together.scope():
    layer = keras.layers.Dropout(0.25, seed=3)
    layer.build((40, 50))
@tf.function(autograph=False)
def step():
    with strategies.seeds_by_replica(2):
        return together.strategy.run(lambda: layer(tf.ones((40, 50)), training=True))
first, second = (together.strategy.experimental_local_results(step()) for _ in range(2))
masks = [part.numpy() > 0 for part in (*first, *second)]
for k, mask in enumerate(masks):
    assert abs(mask.mean() - 0.75) < 0.04, mask.mean()
    for other in masks[:k]:  # of independent masks, 0.75 * 0.75 + 0.25 * 0.25 agree
        assert abs((mask == other).mean() - 0.625) < 0.05, (mask == other).mean()
assert keras.random.SeedGenerator.next.__name__ == "next"
print("different")
"""


def test_every_replica_drops_other_units():
    done = subprocess.run([sys.executable, "-c", MASKS], capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "different", done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_launch_restarts_all_workers_when_one_is_killed(trained, paths, tmp_path):
    """Worker 1 kills itself with -9 in the middle of the second stage, once."""
    (tmp_path / "toys_of_mine").mkdir()
    (tmp_path / "toys_of_mine" / "toy_killer.py").write_text(KILLER)
    argv = [flag.format(**paths) for flag in TASKS["image_classification"]]
    output = [f"--output.run_dir={tmp_path / 'run'}", f"--output.model_dir={tmp_path / 'models'}"]
    command = [sys.executable, "-m", "tfpt", "launch", "--launch.workers=2", "--launch.restarts=2", "--", "train"]
    done = subprocess.run(
        [*command, "--task=toys_of_mine.toy_killer", *argv, *TINY, "--train.checkpoint_steps=1", *output],
        capture_output=True, text=True, timeout=1500, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "A worker died; all are started again (1 of 2)" in done.stdout
    assert (tmp_path / "killed").exists()
    whole = trained("image_classification", "2 workers", "--train.checkpoint_steps=1")
    assert runs.differences(*(without_task(runs.end_of(run)) for run in (tmp_path / "run", whole))) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, (75, 75)), (signal.SIGKILL, (None, 75))])
def test_what_stops_one_worker_stops_all_and_they_go_on_exactly(number, codes, starter, paths):
    argv = ["--task=image_classification", *(flag.format(**paths) for flag in TASKS["image_classification"]), *TINY]
    whole, run = (starter.folder / f"{name}-{number}" for name in ("whole", "stopped"))
    events = starter.start_workers(argv, whole, count=2)["events"]
    event = [k for k, name in enumerate(events) if name == "batch"][-1]
    stopped = starter.start_workers(argv, run, count=2, kill={"event": event, "after": 0, "signal": number})
    assert (stopped["code"], *stopped["others"]) == codes
    if number == signal.SIGKILL:
        assert "another worker was lost" in (run.parent / f"{run.name}.out.1").read_text()
    again = starter.start_workers(argv, run, count=2)
    assert (again["code"], again["others"]) == (0, [0])
    assert runs.differences(runs.end_of(run), runs.end_of(whole)) == []


def without_task(end):
    return {name: value for name, value in end.items() if name not in ("metrics.json", "left over")}


KILLER = """
import json, os, signal
from pathlib import Path
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training import loop
plain = loop._advance
def advance(stage, progress, *more):
    last = Path("killed")
    if stage.name == "fine_tune" and progress.step == 1 and "--runtime.worker=1" in open("/proc/self/cmdline").read() and not last.exists():
        last.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(stage, progress, *more)
loop._advance = advance
class ToyKiller(ImageClassification):
    pass
"""
