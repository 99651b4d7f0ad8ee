import io

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


def saved_at(saver, *orders, name="step"):
    """Saves a variable whose value is the order."""
    return [
        saver.save(order, [tf.Variable(float(order)), tf.Variable([order])], {"at": order}, name=name)
        for order in orders
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
    saved_at(saver, 7, name="best-head")
    assert sorted(f.name[-3:] for f in tmp_path.iterdir()) == ["002", "003", "007"]
    assert saver.latest(console=console).state == {"at": 3}
    assert saver.latest(console=console, name="best-head").state == {"at": 7}


def test_the_same_order_again_replaces(tmp_path, console):
    saver = Checkpoints(tmp_path, keep=2)
    saved_at(saver, 5)
    saver.save(5, [tf.Variable(-1.0), tf.Variable([-1])], {"at": "again"})
    found = saver.latest(console=console)
    assert (found.state, restored(found)) == ({"at": "again"}, -1.0)


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


def test_clear_deletes_everything(tmp_path, console):
    saver = Checkpoints(tmp_path / "checkpoints", keep=2)
    saved_at(saver, 1)
    saver.clear()
    assert saver.latest(console=console) is None
    assert not (tmp_path / "checkpoints").exists()


def test_variables_of_another_shape_are_refused(tmp_path):
    saver = Checkpoints(tmp_path, keep=1)
    folder = saver.save(1, [tf.Variable(np.zeros(3, "float32"))], {})
    with pytest.raises((ValueError, AssertionError)):
        checkpoints.restore(folder, [tf.Variable(np.zeros(4, "float32"))])
