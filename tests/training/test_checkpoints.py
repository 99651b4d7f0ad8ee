import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfpt.console import Console
from tfpt.training import checkpoints
from tfpt.training.checkpoints import Checkpoints


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def console(screen):
    return Console(stream=screen)


def saved_at(saver, *updates, stage=0, name="step"):
    """Saves variables whose value is the number of updates."""
    return [
        saver.save((stage, count), [tf.Variable(float(count)), tf.Variable([count])], {"at": count}, name=name)
        for count in updates
    ]


def restored(saved):
    variables = [tf.Variable(0.0), tf.Variable([0])]
    checkpoints.restore(saved.folder, variables)
    assert variables[1].numpy().tolist() == [int(variables[0].numpy())]
    return float(variables[0].numpy())


def test_values_and_plain_state_come_back(tmp_path, console):
    saver = Checkpoints(tmp_path / "checkpoints", keep=3)
    assert saver.latest(console=console) is None
    saved_at(saver, 9, 10, 100)
    found = saver.latest(console=console)
    assert (found.state, restored(found)) == ({"at": 100}, 100.0)


def test_only_the_newest_are_kept_and_series_are_apart(tmp_path, console):
    saver = Checkpoints(tmp_path, keep=2)
    saved_at(saver, 1, 2, 3)
    saved_at(saver, 7, name="best")
    kept = ["best-00-0000000007", "step-00-0000000002", "step-00-0000000003"]
    assert sorted(f.name for f in tmp_path.iterdir()) == kept
    assert saver.latest(console=console).state == {"at": 3}
    assert saver.latest(console=console, name="best").state == {"at": 7}


def test_best_weights_that_a_kept_checkpoint_goes_back_to_are_kept(tmp_path):
    saver = Checkpoints(tmp_path, keep=1)
    values = [tf.Variable(1.0), tf.Variable([1])]

    def at(updates, *, best):
        saver.save((1, updates), values, {"stage": 1, "best": {"total_steps": best}})

    saved_at(saver, 90, stage=1, name="best")
    at(100, best=90)
    saved_at(saver, 100, 110, 120, stage=1, name="best")
    assert sorted(f.name for f in tmp_path.glob("best-*")) == ["best-01-0000000090", "best-01-0000000120"]
    at(120, best=120)
    saved_at(saver, 130, stage=1, name="best")
    assert sorted(f.name for f in tmp_path.glob("best-*")) == ["best-01-0000000120", "best-01-0000000130"]


def test_a_later_stage_is_newer_whatever_its_updates(tmp_path, console):
    saver = Checkpoints(tmp_path, keep=2)
    saved_at(saver, 40, stage=1)
    saved_at(saver, 50, 60)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-00-0000000060", "step-01-0000000040"]
    assert saver.latest(console=console).state == {"at": 40}


def test_exactly_one_moment_is_found_and_not_when_it_is_damaged(tmp_path):
    saver = Checkpoints(tmp_path, keep=9)
    saved_at(saver, 3, 6, name="best")
    (newest,) = saved_at(saver, 3, stage=1, name="best")
    assert saver.find((0, 3), name="best").state == {"at": 3}
    assert restored(saver.find((0, 6), name="best")) == 6.0
    assert saver.find((0, 4), name="best") is None
    assert saver.find((0, 3), name="step") is None
    (newest / "variables.index").write_bytes(b"")
    assert saver.find((1, 3), name="best") is None


def test_what_is_newer_is_forgotten_in_every_series(tmp_path):
    saver = Checkpoints(tmp_path / "checkpoints", keep=9)
    saver.forget_after((0, 0))  # before there is anything
    for name in ("step", "best"):
        saved_at(saver, 3, 6, 9, name=name)
        saved_at(saver, 6, 12, stage=1, name=name)
    saver.forget_after((0, 6))
    kept = [f"{name}-00-000000000{count}" for name in ("best", "step") for count in (3, 6)]
    assert sorted(f.name for f in saver.folder.iterdir()) == kept
    saver.forget_after((0, 0))
    assert list(saver.folder.iterdir()) == []


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []

    def fsync(handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((path.name, (tmp_path / "step-00-0000000001").exists()))

    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    (folder,) = saved_at(Checkpoints(tmp_path, keep=1), 1)
    assert sorted(synced[:-2]) == sorted((file.name, False) for file in folder.iterdir())
    assert synced[-2][0].startswith(".partial-") and not synced[-2][1]  # the folder with their names
    assert synced[-1] == (tmp_path.name, True)  # the rename


def save_again(saver, *, order=(0, 5)):
    return saver.save(order, [tf.Variable(-1.0), tf.Variable([-1])], {"at": "again"})


def test_the_same_order_again_replaces(tmp_path, console):
    saver = Checkpoints(tmp_path, keep=2)
    saved_at(saver, 5)
    save_again(saver)
    found = saver.latest(console=console)
    assert (found.state, restored(found)) == ({"at": "again"}, -1.0)
    assert saver.find((0, 5), name="step").state == {"at": "again"}
    saver.forget_after((0, 5))
    assert len(list(tmp_path.iterdir())) == 1
    saved_at(saver, 5)
    assert saver.latest(console=console).state == {"at": 5}
    saver.forget_after((0, 4))
    assert list(tmp_path.iterdir()) == []


TO_THE_DISK = ((Path, "rename"), (checkpoints.shutil, "rmtree"), (checkpoints, "_sync"))


@pytest.mark.parametrize("order", [(0, 5), (0, 6)])
def test_with_one_checkpoint_kept_there_is_a_whole_one_at_every_moment(tmp_path, console, screen, killed, order):
    at = 0
    while True:
        saver = Checkpoints(tmp_path / str(at), keep=1)
        saved_at(saver, 5)
        again = killed(lambda saver=saver: save_again(saver, order=order), at=at, before=TO_THE_DISK)
        found = Checkpoints(saver.folder, keep=1).latest(console=console)
        assert (found.state, restored(found)) in (({"at": 5}, 5.0), ({"at": "again"}, -1.0)), at
        saver.forget_after((found.state["at"] == "again" and order) or (0, 5))
        assert saver.latest(console=console).state == found.state
        save_again(saver, order=order)
        assert saver.latest(console=console).state == {"at": "again"}
        assert len(list(saver.folder.iterdir())) == 1
        if not again:
            break
        at += 1
    assert at > 6 and screen.getvalue() == ""


def test_where_the_only_checkpoint_is_damaged_that_is_said(tmp_path, console, screen):
    saver = Checkpoints(tmp_path, keep=1)
    (only,) = saved_at(saver, 5)
    (only / "variables.index").write_bytes(b"")
    assert saver.latest(console=console) is None
    assert "No checkpoint is left to go on from" in screen.getvalue().replace("\n", " ")


@pytest.mark.parametrize("file", ["variables.data-00000-of-00001", "variables.index", "state.txt"])
def test_a_flipped_byte_is_reported_and_the_one_before_is_used(tmp_path, console, screen, file):
    saver = Checkpoints(tmp_path, keep=2)
    _, newest = saved_at(saver, 1, 2)
    damaged = bytearray((newest / file).read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (newest / file).write_bytes(damaged)
    found = saver.latest(console=console)
    assert (found.state, restored(found)) == ({"at": 1}, 1.0)
    assert newest.name in screen.getvalue()
    assert "damaged" in screen.getvalue()


def test_no_flipped_bit_of_the_plain_state_goes_unseen(tmp_path, console):
    saver = Checkpoints(tmp_path, keep=2)
    _, newest = saved_at(saver, 1, 26)
    good = (newest / "state.txt").read_bytes()
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1  # often JSON still: 26 becomes 36
        (newest / "state.txt").write_bytes(damaged)
        assert saver.latest(console=console).state == {"at": 1}, place


@pytest.mark.parametrize("file", ["variables.data-00000-of-00001", "state.txt"])
def test_a_missing_file_is_damage_too(tmp_path, console, file):
    saver = Checkpoints(tmp_path, keep=2)
    _, newest = saved_at(saver, 1, 2)
    (newest / file).unlink()
    assert saver.latest(console=console).state == {"at": 1}


def test_what_was_not_finished_is_never_taken(tmp_path, console, monkeypatch):
    saver = Checkpoints(tmp_path, keep=2)
    saved_at(saver, 1)

    def fail(path):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints, "_digest", fail)
    with pytest.raises(OSError, match="no space"):
        saved_at(saver, 2)
    monkeypatch.undo()
    assert saver.latest(console=console).state == {"at": 1}
    saved_at(saver, 2)
    assert saver.latest(console=console).state == {"at": 2}
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []


def test_variables_of_another_shape_are_refused(tmp_path):
    saver = Checkpoints(tmp_path, keep=1)
    folder = saver.save((0, 1), [tf.Variable(np.zeros(3, "float32"))], {})
    with pytest.raises((ValueError, AssertionError)):
        checkpoints.restore(folder, [tf.Variable(np.zeros(4, "float32"))])
