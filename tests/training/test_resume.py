"""A run that Ctrl-C stopped and that was started again ends as one that was never stopped, to the bit."""

import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from tfpt.errors import UserError
from tfpt.training.run_folder import RunFolder

TIMING = ("seconds", "examples_per_second", "evaluation_seconds")
SETTINGS = {
    "backbone": "toys.toy_pixels",
    "task_options": {"dropout": 0.3},
    "augment": "random_crop(pad=2)|flip",
    "head_epochs": 2,
    "epochs": 2,
    "accumulate": 2,
    "batch_size": 4,
    "batch_norm": "train",
    "ema": 0.9,
    "layer_decay": 0.8,
    "publish": False,
}


@pytest.fixture(scope="module")
def whole(fit, pictures, tmp_path_factory):
    """A run that was never stopped."""
    return fit(tmp_path_factory.mktemp("whole"), data=f"folder:{pictures}", **SETTINGS)


def stop_after(monkeypatch, total_steps):
    """Presses Ctrl-C when the row of an update is written."""
    add_row = RunFolder.add_row

    def press(self, row):
        add_row(self, row)
        if row["total_steps"] == total_steps and row["split"] == "train":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunFolder, "add_row", press)


def last_checkpoint(run, name="step"):
    reader = tf.train.load_checkpoint(str(max((run.folder / "checkpoints").glob(f"{name}-*")) / "variables"))
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith("variables/")]
    return {n: reader.get_tensor(n) for n in names}


def abandon(checkpoints):
    """Damages the newest state, and leaves weights behind that were the best of the course which ended there."""
    newest, before = sorted(checkpoints.glob("step-*"), reverse=True)[:2]
    (newest / "state.txt").write_text("")
    assert before.name[:7] == newest.name[:7] == "step-01"
    best = max(checkpoints.glob("best-*"))
    for updates in (int(before.name[-10:]) + 1, 10**9):
        shutil.copytree(best, checkpoints / f"best-01-{updates:010d}")


def untimed(history):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in history]


def assert_same_end(run, other):
    ours, theirs = last_checkpoint(run), last_checkpoint(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []
    assert untimed(run.history) == untimed(other.history)
    assert run.metrics["test"] == other.metrics["test"]
    assert run.metrics["validation"] == other.metrics["validation"]


def test_ctrl_c_then_again_ends_bit_equal(whole, fit, pictures, tmp_path, monkeypatch):
    steps = {row["stage"]: row["total_steps"] for row in whole.history}
    assert steps["fine_tune"] - steps["head"] >= 6
    settings = {"data": f"folder:{pictures}", **SETTINGS}
    # in the head, at its end, in the middle of an epoch, at the very end: one run, stopped four times
    for moment in (3, steps["head"], steps["head"] + 7, steps["fine_tune"]):
        with monkeypatch.context() as patch:
            stop_after(patch, moment)
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path, **settings)
        folder = RunFolder(tmp_path / "run")
        assert folder.status()["state"] == "interrupted"
        assert folder.history()[-1]["total_steps"] == moment
        if moment == 3:
            began_with = folder.read_json("weights.json")
            folder.write_json("weights.json", {**began_with, "trunk": "of an earlier file"})
            with pytest.raises(UserError, match="other weights: what --backbone reads has changed"):
                fit(tmp_path, **settings)
            folder.write_json("weights.json", began_with)
        if moment == steps["head"] + 7:
            abandon(folder.path / "checkpoints")
    assert_same_end(fit(tmp_path, **settings), whole)
    assert not list((tmp_path / "run" / "checkpoints").glob(f"*-{10**9:010d}"))


def test_other_learning_rates_are_gone_on_with_where_that_is_asked_for(fit, pictures, tmp_path, monkeypatch):
    settings = {"data": f"folder:{pictures}", **SETTINGS}
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, **settings)
    with pytest.raises(UserError, match=r"other settings \(optim.clip_norm\).*or resume_changed to go on with them\."):
        fit(tmp_path, **settings, clip_norm=0.25)
    changed = {**settings, "clip_norm": 0.25, "schedule": "linear"}
    with pytest.raises(
        UserError, match=r"other settings \(input.split\); choose another --output.name, or --output.if_exists=new\."
    ):
        fit(tmp_path, **{**changed, "split": "60,20,20"}, output={"if_exists": "resume_changed"})
    run = fit(tmp_path, **changed, output={"if_exists": "resume_changed"})
    assert "other settings than before: optim.schedule, optim.clip_norm." in (run.folder / "log.txt").read_text()
    assert fit(tmp_path, **changed).metrics == run.metrics  # what it ended with is the run's now
    with pytest.raises(UserError, match=r"other settings \(optim.schedule, optim.clip_norm\); choose another"):
        fit(tmp_path, **settings, output={"if_exists": "resume_changed"})
