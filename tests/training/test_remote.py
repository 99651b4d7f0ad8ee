"""A run folder on an object store; ram:// stands for one, gs:// was not run."""

import fcntl
import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Component, Experiment, Input, Output, Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import remote
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.follower import Follower
from tfpt.training.remote import Remote, exists, url_of
from tfpt.training.run_folder import RunFolder, free_name

gfile = tf.io.gfile


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder on a store, and its copy."""
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    url = f"ram://{tmp_path.name}/run"
    if gfile.exists(url):
        gfile.rmtree(url)
    return Remote(url)


def write(folder, **files):
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_txt", ".txt").replace("_json", ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def there(url):
    return sorted(
        f"{folder}/{name}".replace("//", "/").partition("/run/")[2]
        for folder, _, names in gfile.walk(url)
        for name in names
    )


@pytest.fixture
def sent(monkeypatch):
    """The names that were sent and removed, in order."""
    done = []
    rename, remove = gfile.rename, gfile.remove
    monkeypatch.setattr(gfile, "rename", lambda a, b, **k: (done.append(b.partition("/run/")[2]), rename(a, b, **k)))

    def removed(path):
        if "/.sent-" not in path:
            done.append(f"-{path.partition('/run/')[2]}")
        remove(path)

    monkeypatch.setattr(gfile, "remove", removed)
    return done


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("gs:/bucket/runs/a", "gs://bucket/runs/a"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("runs/a", ""),
        ("/runs/a", ""),
        ("runs/a:b/c", ""),
    ],
)
def test_an_address_is_told_from_a_path(path, url):
    assert url_of(path) == url


def test_what_a_checkpoint_goes_on_with_is_sent_first_what_makes_it_one_last_and_then_the_status(store, sent):
    write(store.copy, status_json="1", log_txt="a", checkpoints__step__state_txt="s", checkpoints__step__zzz="v")
    write(store.copy, **{".lock": "", "checkpoints__.partial-x__v": ""})
    store.push()
    assert sent == ["log.txt", "checkpoints/step/zzz", "checkpoints/step/state.txt", "status.json"]
    sent.clear()
    store.push()
    assert sent == []
    write(store.copy, checkpoints__step__zzz="new", checkpoints__step__state_txt="t")
    store.push()
    assert sent == ["-checkpoints/step/state.txt", "checkpoints/step/zzz", "checkpoints/step/state.txt"]


def test_the_copy_becomes_what_is_there_and_half_sent_checkpoints_are_left_out(store):
    write(store.copy, log_txt="a", checkpoints__step__state_txt="s", checkpoints__step__v="v", old_txt="o")
    store.push()
    for name in ("checkpoints/half/v", "more.txt"):
        gfile.makedirs(f"{store.url}/{name}".rpartition("/")[0])
        with gfile.GFile(f"{store.url}/{name}", "w") as file:
            file.write("m")
    gfile.remove(f"{store.url}/old.txt")
    write(store.copy, only_here_txt="x")
    for here in (store, Remote(store.url), Remote(store.url, worker=1)):
        here.pull()
        found = sorted(file.relative_to(here.copy).as_posix() for file in here.copy.rglob("*") if file.is_file())
        assert found == ["checkpoints/step/state.txt", "checkpoints/step/v", "log.txt", "more.txt"]
        assert (here.copy / "more.txt").read_text() == "m"
    assert here.copy != store.copy


def test_what_is_gone_is_removed_there(store, sent):
    write(
        store.copy,
        log_txt="a",
        checkpoints__one__state_txt="s",
        checkpoints__one__v="v",
        checkpoints__two__state_txt="s",
    )
    store.push()
    sent.clear()
    shutil.rmtree(store.copy / "checkpoints" / "one")
    store.push()
    assert sent[0] == "-checkpoints/one/state.txt"
    assert there(store.url) == ["checkpoints/two/state.txt", "log.txt"]


@pytest.mark.parametrize("again", [False, True])
def test_with_one_checkpoint_kept_there_is_a_whole_one_on_the_store_at_every_moment(store, killed, again):
    """The process dies before the k-th thing that it does to the store."""

    to_the_store = [(gfile, name) for name in ("copy", "rename", "remove", "rmtree")]
    for k in range(99):
        here = Remote(f"{store.url}-{again}-{k}")
        saver = Checkpoints(here.copy / "checkpoints", keep=1, remote=here)
        saver.save((0, 1), [tf.Variable(1.0)], {"at": 1})
        order = (0, 1 if again else 2)
        ended = not killed(
            lambda saver=saver, order=order: saver.save(order, [tf.Variable(2.0)], {"at": 2}), at=k, before=to_the_store
        )
        far = Remote(here.url, worker=1)
        far.pull()
        found = Checkpoints(far.copy / "checkpoints", keep=1).latest(console=Console(quiet=True))
        assert found.state["at"] in ((2,) if ended else (1, 2))
        if ended:
            break
    assert ended and k > 6


def test_between_checkpoints_it_is_sent_now_and_then(store, sent, monkeypatch):
    write(store.copy, log_txt="a")
    store.push(now=False)
    write(store.copy, log_txt="ab")
    store.push(now=False)
    assert sent == ["log.txt"]
    monkeypatch.setattr(remote, "SECONDS_BETWEEN", 0.0)
    store.push(now=False)
    assert sent == ["log.txt", "log.txt"]


def test_a_store_that_cannot_be_reached_is_said(store, monkeypatch):
    with pytest.raises(UserError, match=r"--output.run_dir=nosuch://a/b: this TensorFlow cannot read nosuch://"):
        RunFolder("nosuch:/a/b")
    with pytest.raises(UserError, match="nosuch://a/b"):
        exists("nosuch://a/b")

    def fails(*arguments, **named):
        raise tf.errors.UnavailableError(None, None, "no network\nat all")

    write(store.copy, log_txt="a")
    monkeypatch.setattr(gfile, "copy", fails)
    with pytest.raises(UserError, match=r"cannot be reached: no network; the same command goes on when it can"):
        store.push()


def test_several_seeds_need_a_local_folder(store):
    with pytest.raises(UserError, match=r"--train.seeds: their runs need a local folder, not --output.run_dir=ram://"):
        RunFolder(store.url).check_same(experiment(store.url, train=Train(seeds=(0, 1))))


def test_all_folds_need_a_local_folder(store):
    with pytest.raises(UserError, match=r"--input.fold=all: their runs need a local folder"):
        RunFolder(store.url).check_same(experiment(store.url, input=Input(folds=3)))
    RunFolder(store.url).check_same(experiment(store.url, input=Input(folds=3, fold=0)))


def test_a_copy_that_another_process_trains_in_stays_as_it_is(store):
    write(store.copy, log_txt="a")
    store.push()
    write(store.copy, unsent_txt="x")
    with (store.copy / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Remote(store.url).pull()
        assert (store.copy / "unsent.txt").is_file()
    Remote(store.url).pull()
    assert not (store.copy / "unsent.txt").exists()


def test_who_follows_sees_that_the_run_has_ended_since(store):
    chief, follower = RunFolder(store.url), Follower(store.url)
    follower.remote = Remote(store.url, worker=1)
    follower.path = follower.remote.copy
    chief.path.mkdir(parents=True)
    chief.write_status("running")
    assert not follower.is_finished()
    chief.write_status("finished")
    assert follower.is_finished()


def test_what_is_removed_while_it_is_read_is_left_out(store, monkeypatch):
    write(store.copy, log_txt="a", more_txt="m")
    store.push()
    copy = gfile.copy

    def vanished(source, *arguments, **named):
        if source.endswith("log.txt"):
            raise tf.errors.NotFoundError(None, None, "gone")
        copy(source, *arguments, **named)

    monkeypatch.setattr(gfile, "copy", vanished)
    other = Remote(store.url, worker=1)
    other.pull()
    assert [file.name for file in other.copy.iterdir()] == ["more.txt"]


def experiment(run_dir, **groups):
    parts = {kind: Component(kind=kind, name="x") for kind in ("task", "data")}
    output = Output(name="a", run_dir=run_dir, model_dir="m", if_exists="new")
    return Experiment(**parts, backbone={"trunk": Component(kind="backbone", name="x")}, output=output, **groups)


def test_a_new_name_is_found_there(store):
    write(store.copy, log_txt="a")
    store.push()
    made = free_name(experiment(store.url))
    assert made.output.run_dir == f"{store.url}-2"


SETTINGS = {"head_epochs": 1, "epochs": 1, "task_options": {"dropout": 0.3}, "publish": False}


def test_a_run_on_a_store_goes_on_on_another_machine_and_ends_bit_equal(fit, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    data = f"folder:{pictures}"
    whole = fit(tmp_path / "whole", data=data, **SETTINGS)
    url = f"ram://{tmp_path.name}/run"
    add_row = RunFolder.add_row

    def press(self, row):
        add_row(self, row)
        if row["total_steps"] == 3 and row["split"] == "train":
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "add_row", press)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "far", data=data, output={"run_dir": url}, **SETTINGS)
    assert json.loads(gfile.GFile(f"{url}/status.json").read())["state"] == "interrupted"
    shutil.rmtree(Remote(url).copy)  # as on a machine that has never seen it
    run = fit(tmp_path / "far", data=data, output={"run_dir": url}, **SETTINGS)
    assert "Going on from step 1 of 2 in stage fine_tune" in gfile.GFile(f"{url}/log.txt").read()
    for name in ("final", "best", "step"):
        ours, theirs = (max((one.folder / "checkpoints").glob(f"{name}-*")) for one in (run, whole))
        assert ours.name == theirs.name
        one, same = (tf.train.load_checkpoint(str(folder / "variables")) for folder in (ours, theirs))
        for key in (name for name in one.get_variable_to_shape_map() if name.startswith("variables/")):
            np.testing.assert_array_equal(one.get_tensor(key), same.get_tensor(key))
    assert run.metrics["test"] == whole.metrics["test"]
    listed = there(url)
    assert {"metrics.json", "report.html", "predictions.csv", "experiment.flags", "splits.csv"} <= set(listed)
    assert f"checkpoints/{ours.name}/state.txt" in listed
    assert fit(tmp_path / "far", data=data, output={"run_dir": url}, **SETTINGS).metrics == run.metrics  # finished
