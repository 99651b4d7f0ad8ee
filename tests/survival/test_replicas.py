"""Two and four replicas, and two workers, train what one device trains."""

import csv
import json
import signal
import subprocess
import sys
import time

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
    "image_classification": [
        "--data=folder:{pictures}",
        *IMAGES[:-1],
        "--input.augment=flip|random_crop(pad=2)|mixup(0.2)",
        "--train.ema=0.5",
    ],
    "image_regression": ["--data=csv:{measured}", *IMAGES],
    "text_classification": ["--data=csv:{texts}", "--backbone=tiny:transformer", "--input.tokens_per_batch=64"],
    "token_classification": ["--data=conll:{tagged}", "--backbone=toys.toy_words"],
    "question_answering": ["--data=squad:{asked}", "--backbone=toys.toy_words"],
}
"""Small data and a small backbone for every task in the registry."""


@pytest.fixture(scope="module")
def starter(survival):
    return survival.starter


@pytest.fixture(scope="module")
def paths(starter, pictures):
    """Small data of every kind."""
    folder = starter.folder / "small_data"
    folder.mkdir()
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


def assert_equal_predictions(run, other, *, tolerance=1e-5):
    """Each example once, scores equal, and labels where the two best scores are not the same."""
    ours, theirs = (list(csv.DictReader((one / "predictions.csv").open())) for one in (run, other))
    assert [row["name"] for row in ours] == [row["name"] for row in theirs]
    assert len(ours) > 10
    for row, same in zip(ours, theirs, strict=True):
        best = sorted(float(value) for name, value in same.items() if name.startswith("score:"))[-2:]
        close = len(best) == 2 and best[1] - best[0] < 1e-4
        for name, value in row.items():
            if name.startswith("score") and value and same[name]:
                assert float(value) == pytest.approx(float(same[name]), abs=tolerance)
            elif not (close and name in ("predicted", "correct")):
                assert _number(value) == pytest.approx(_number(same[name]), abs=1e-4), name


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", ["2 replicas", "4 replicas", "2 workers"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_the_same(task, where, trained):
    whole = ["--train.accumulate=1"] if where.startswith("4") else []
    run = trained(task, where, *whole)
    assert_equal_training(run, trained(task, "1", *whole))
    assert_equal_predictions(run, trained(task, "1", *whole))
    said = [line.partition(" ")[2] for line in (run / "log.txt").read_text().splitlines()]
    assert len(said) == len(set(said)), "several processes wrote into one log"


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


@pytest.fixture(scope="module")
def small(starter):
    """`small("2 replicas")` trains a small network once and returns what came of it."""
    known = {}

    def small(where):
        if where not in known:
            count, _, kind = where.partition(" ")
            file = starter.folder / f"small-{where.replace(' ', '-')}.npz"
            options = {"strategy": "mirrored", "replicas": int(count)} if kind == "replicas" else {}
            job = {"call": "small_training:train"}
            argv, run = [json.dumps(options), str(file)], file.with_suffix("")
            went = (
                starter.start_workers(argv, run, count=2, **job)
                if kind == "workers"
                else starter.start(argv, run, **job)
            )
            assert (went["code"], set(went["others"])) in ((0, set()), (0, {0})), run.with_suffix(".out").read_text()
            with np.load(file) as arrays:
                known[where] = list(arrays.values())
        return known[where]

    return small


SLOW = [pytest.param(where, marks=pytest.mark.slow) for where in ("4 replicas", "2 workers")]


@pytest.mark.parametrize("where", ["2 replicas", *SLOW])
def test_updates_of_several_replicas_equal_those_of_one_device(where, small):
    """Accumulation, clipping, synchronised batch normalisation and averages; summing gradients twice would show."""
    one, several = small("1"), small(where)
    assert len(one) == len(several) and one[2].tolist() == several[2].tolist()
    for ours, theirs in zip(several, one, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not np.allclose(one[0], one[0][0])


def test_every_replica_drops_other_units(starter):
    file = starter.folder / "masks.npz"
    run = starter.folder / "masks"
    assert starter.start([str(file)], run, call="small_training:masks")["code"] == 0, run.with_suffix(
        ".out"
    ).read_text()
    with np.load(file) as arrays:
        masks = list(arrays.values())
    for k, mask in enumerate(masks):
        assert abs(mask.mean() - 0.75) < 0.04, mask.mean()
        for other in masks[:k]:  # of independent masks, 0.75 * 0.75 + 0.25 * 0.25 agree
            assert abs((mask == other).mean() - 0.625) < 0.05, (mask == other).mean()


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
def test_ctrl_c_on_launch_saves_and_the_same_command_ends_as_one_that_was_not_stopped(trained, paths, tmp_path):
    (tmp_path / "toys_of_mine").mkdir()
    (tmp_path / "toys_of_mine" / "toy_slow.py").write_text(SLOW)
    argv = [flag.format(**paths) for flag in TASKS["image_classification"]]
    output = [f"--output.run_dir={tmp_path / 'run'}", f"--output.model_dir={tmp_path / 'models'}"]
    command = [sys.executable, "-m", "tfpt", "launch", "--launch.workers=2", "--", "train"]
    command += ["--task=toys_of_mine.toy_slow", *argv, *TINY, *output]
    rows = tmp_path / "run" / "metrics.jsonl"
    with (tmp_path / "said").open("w+") as said:
        first = subprocess.Popen(command, stdout=said, stderr=said, cwd=tmp_path)
        while not (rows.is_file() and rows.read_text().count("fine_tune")):
            assert first.poll() is None, (tmp_path / "said").read_text()[-3000:]
            time.sleep(0.1)
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=300) == 130
    assert "The workers have stopped and saved where they were." in (tmp_path / "said").read_text()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    (tmp_path / "fast").touch()
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Going on from step" in done.stdout and "A worker died" not in done.stdout
    whole = trained("image_classification", "2 workers")
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
def advance(course, *more):
    last = Path("killed")
    if course.stage.name == "fine_tune" and course.progress.step == 1 and "--runtime.worker=1" in open("/proc/self/cmdline").read() and not last.exists():
        last.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(course, *more)
loop._advance = advance
class ToyKiller(ImageClassification):
    pass
"""

SLOW = """
import time
from pathlib import Path
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training import loop
plain = loop._advance
def advance(course, *more):
    if not Path("fast").exists():
        time.sleep(1.0)
    return plain(course, *more)
loop._advance = advance
class ToySlow(ImageClassification):
    pass
"""
