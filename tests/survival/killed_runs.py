"""Runs that are killed at random moments and started again until they end, and what two ends must have in common."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

TIMING = ("seconds", "examples_per_second", "evaluation_seconds")
MOST_KILLS = 3
SHARED = [
    "--train.accumulate=2",
    "--train.ema=0.9",
    "--train.head_epochs=1",
    "--train.epochs=2",
    "--task.dropout=0.3",
    "--input.split=50,25,25",
    "--export.publish=false",
]
FLAGS = {
    "images": [
        "--task=image_classification",
        "--backbone=tiny:conv",
        "--data=folder:{pictures}",
        "--input.image_size=16",
        "--input.augment=random_crop(pad=2)|flip|mixup(0.2)",
        "--train.batch_size=8",
        "--train.batch_norm=train",
        "--train.evaluate_every=2",
        *SHARED,
    ],
    "texts": [
        "--task=text_classification",
        "--backbone=tiny:transformer",
        "--data=csv:{texts}",
        "--input.tokens_per_batch=40",
        "--train.batch_size=8",
        "--optim.layer_decay=0.8",
        *SHARED,
    ],
}
"""Accumulation, dropout and averages in both; augmentation and mixup with the pictures, batches of like lengths with the
texts."""
SAMPLE = [flag.replace("head_epochs=1", "head_epochs=0").replace("|mixup(0.2)", "") for flag in FLAGS["images"]]
"""What every test run kills: less of it."""
WORDS = ("good", "bad", "film", "a", "very", "long", "story", "not", "one", "to", "miss")


def write_texts(file, *, count=40):
    """Writes texts of 1 to 16 words in two classes."""
    draw = random.Random(0)
    lines = ["text,label"]
    for k in range(count):
        words = [draw.choice(WORDS[2:]) for _ in range(draw.randint(0, 15))]
        words.insert(draw.randint(0, len(words)), WORDS[k % 2])
        lines.append(f"{' '.join(words)},{k % 2}")
    file.write_text("\n".join(lines) + "\n")
    return file


class Starter:
    """Starts trainings; one process that has imported everything, and a child a start."""

    def __init__(self, folder):
        self.folder = Path(folder)
        script = Path(__file__).with_name("warm_parent.py")
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TFPT_HOME": str(self.folder / "home"),
            "PYTHONPATH": os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")]),
        }
        disk = self.folder / "disk"
        disk.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, script, disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.has_disk = json.loads(self._process.stdout.readline())["disk"]
        """Whether `disk` is a small one; else files in it are bounded in size."""
        self.disk = disk

    def seen(self, path):
        """Returns where this process sees what is on the disk."""
        return Path(f"/proc/{self._process.pid}/root{path}") if self.has_disk else Path(path)

    def start(self, argv, run, **job):
        """Starts a training in `run` and returns how it ended."""
        run = Path(run)
        run.parent.mkdir(parents=True, exist_ok=True)
        output = [f"--output.run_dir={run}", f"--output.model_dir={run}-models"]
        job |= {"argv": [*argv, *output], "log": str(run.with_suffix(".out"))}
        job["others"] = [[*other, *output] for other in job.get("others", ())]
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def start_workers(self, argv, run, *, count, **job):
        """Starts a training on several workers of this machine and returns how it ended; what is killed is the first."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            addresses = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
        first, *others = ([*argv, f"--runtime.workers={addresses}", f"--runtime.worker={k}"] for k in range(count))
        return self.start(first, run, others=others, **job)


def random_kill(draw, *, events, seconds):
    """Returns a moment: at an event, a little after one, or any."""
    kind = draw.choice(("at", "after", "any"))
    if kind == "any":
        return {"event": -1, "after": draw.uniform(0.3, seconds)}
    return {"event": draw.randrange(len(events)), "after": draw.uniform(0.001, 0.2) if kind == "after" else 0}


def remove(run):
    """Removes a run with its log and models."""
    for path in (Path(run), Path(f"{run}-models")):
        shutil.rmtree(path, ignore_errors=True)
    Path(run).with_suffix(".out").unlink(missing_ok=True)


def killed_until_it_ends(starter, argv, run, *, seed, whole):
    """Starts the run, kills it up to `MOST_KILLS` times at random moments, and lets it end; returns the kills that hit."""
    draw, hits = random.Random(seed), []
    for _ in range(MOST_KILLS):
        moment = random_kill(draw, events=whole["events"], seconds=whole["seconds"])
        end = starter.start(argv, run, kill=moment)
        if end["signal"] != signal.SIGKILL:
            assert end["code"] == 0, Path(run).with_suffix(".out").read_text()
            return hits
        hits.append({**moment, "last": end["events"][-1] if end["events"] else "before training"})
    end = starter.start(argv, run)
    assert end["code"] == 0, Path(run).with_suffix(".out").read_text()
    return hits


def end_of(run):
    """Returns everything that must be equal: name -> digest or plain values."""
    run = Path(run)
    found = {}
    for name in ("step", "best", "carried", "final"):
        folder = max((run / "checkpoints").glob(f"{name}-??-*"))
        reader = tf.train.load_checkpoint(str(folder / "variables"))
        for key in sorted(reader.get_variable_to_shape_map()):
            value = reader.get_tensor(key)
            if not key.startswith("_CHECKPOINTABLE"):
                found[f"{name} {key}"] = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        state = json.loads((folder / "state.txt").read_text().partition("\n")[0])["state"]
        found[f"{name} state"] = (folder.name.removesuffix("-again"), untimed(state))
    found["history"] = history_of(run)
    for name in ("metrics.json", "predictions.csv", "splits.csv"):
        found[name] = (run / name).read_text()
    found["tensorboard"] = board_rows(run)
    found["left over"] = sorted(f.name for f in (run / "checkpoints").iterdir() if f.name.startswith("."))
    return found


def history_of(run):
    """Returns the rows of a run's metrics.jsonl without what depends on the clock."""
    return untimed([json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()])


def untimed(value):
    if isinstance(value, list):
        return [untimed(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: untimed(one) for key, one in value.items() if key not in (*TIMING, "timings")}


def board_rows(run):
    """Returns the (step, tag) pairs of the TensorBoard log, sorted: none may be there twice."""
    found = []
    for file in sorted((Path(run) / "tensorboard").iterdir()):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            found += [(event.step, value.tag) for value in event.summary.value]
    return sorted(found)


def differences(ours, theirs):
    """Returns the names of what is not equal."""
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
