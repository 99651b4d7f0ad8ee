"""A grid of experiments: how it is written, what is trained, and what is left to do after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfpt import grid, sweep, table
from tfpt.errors import UserError

EXPERIMENT = ["--task=image_classification", "--data=digits", "--backbone=tiny:conv", "--output.name=mine"]


def made(over, *argv, folder=None, publish=False):
    return grid.cells(grid.parse_axes(over), [*EXPERIMENT, *argv], groups=sweep.GROUPS, folder=folder, publish=publish)


def test_the_grammar():
    assert grid.parse_axes("optim.learning_rate=1e-3,1e-4  --train.seed=0,1\n") == {
        "optim.learning_rate": ("1e-3", "1e-4"),
        "train.seed": ("0", "1"),
    }
    assert grid.parse_axes("input.split=[70,15,15],[80,10,10] input.augment=flip|randaugment(2, 9),none") == {
        "input.split": ("70,15,15", "80,10,10"),
        "input.augment": ("flip|randaugment(2, 9)", "none"),
    }


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ("", "--sweep.over is missing"),
        ("train.seed", "train.seed is not FLAG=VALUE,VALUE"),
        ("train.seed=0,,1", "is not FLAG=VALUE,VALUE"),
        ("train.seed=0 train.seed=1", "train.seed stands there twice"),
        ("input.split=[70,15,15", "a bracket without its other half"),
        ("output.name=a,b", "output.name cannot differ"),
        ("runtime.threads=1,2", "runtime.threads cannot differ"),
        ("flagfile=a,b", "flagfile cannot differ"),
        ("train.seed=0,00", "two cells are train.seed=0"),
        ("train.sed=0", "--train.sed"),
        ("train.epochs=2,-1", "--train.epochs=-1 is negative"),
    ],
)
def test_what_is_not_a_grid_is_said_before_anything_runs(over, says):
    with pytest.raises(UserError) as error:
        made(over)
    assert says in str(error.value)


def test_cells_have_folders_of_their_own_and_publish_nothing():
    found = made("backbone=tiny:conv,tiny:transformer optim.learning_rate=1e-3,0.01", "--export.require=accuracy>0.5")
    assert [cell.name for cell in found] == [
        "backbone=tiny_conv,optim.learning_rate=0.001",
        "backbone=tiny_conv,optim.learning_rate=0.01",
        "backbone=tiny_transformer,optim.learning_rate=0.001",
        "backbone=tiny_transformer,optim.learning_rate=0.01",
    ]
    first = found[0].experiment
    assert found[0].folder == Path("sweeps") / "mine" / found[0].name
    assert (first.optim.learning_rate, first.export.publish, first.export.require) == (1e-3, False, "")
    (published,) = made("train.seed=3", "--export.require=accuracy>0.5", folder=Path("x"), publish=True)
    assert (published.experiment.export.publish, published.experiment.export.require) == (True, "accuracy>0.5")
    assert published.experiment.output.model_dir == "saved_models/mine/train.seed=3"
    long = made(f"input.group=({'a' * 200})")[0].name
    assert len(long) < 200
    assert long != made(f"input.group=({'a' * 201})")[0].name


@pytest.mark.parametrize("given", [["--train.seed=7"], ["--train.seed", "7"], []])
def test_an_axis_beats_the_flag_file_and_the_command_line(tmp_path, given):
    file = tmp_path / "mine.flags"
    file.write_text("--train.seed=5\n--train.epochs=2\n--sweep.shard=1/2\n")
    found = made("train.seed=0,1", f"--flagfile={file}", *given, "--train.batch_size=4")
    assert [(c.experiment.train.seed, c.experiment.train.epochs) for c in found] == [(0, 2), (1, 2)]
    assert {c.experiment.train.batch_size for c in found} == {4}


def test_a_sweep_without_a_name_asks_for_one():
    with pytest.raises(UserError, match=r"--output\.name is missing"):
        grid.cells({"train.seed": ("0",)}, EXPERIMENT[:-1], groups={}, folder=None, publish=False)


def test_shards_are_every_cell_once():
    cells = list(range(7))
    parts = [cells[shard - 1 :: count] for shard, count in map(grid.parse_shard, ("1/3", "2/3", "3/3"))]
    assert sorted([*parts[0], *parts[1], *parts[2]]) == cells
    for wrong in ("0/3", "4/3", "1", "a/b"):
        with pytest.raises(ValueError, match="is not I/N"):
            grid.parse_shard(wrong)


@pytest.fixture
def call(capsys):
    def call(argv):
        with pytest.raises(SystemExit) as ended:
            sweep.main(argv)
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def arguments(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.flags").write_text(
        f"--task=image_classification\n--data=folder:{pictures}\n--backbone=tiny:conv\n--input.image_size=8\n"
        "--input.augment=none\n--input.split=50,25,25\n--train.batch_size=9\n--train.head_epochs=1\n--train.epochs=1\n"
        "--train.precision=float32\n"
    )
    return ["--flagfile=toy.flags"]


OVER = "--sweep.over=backbone=tiny:conv,toys.toy_pixels:conv optim.learning_rate=1e-3,1e-4 train.seed=0,1"


def finished(folder):
    """Returns cell -> the time at which it came to its end."""
    found = {}
    for file in folder.glob("*/status.json"):
        if json.loads(file.read_text())["state"] == "finished":
            found[file.parent.name] = (file.stat().st_mtime_ns, (file.parent / "metrics.json").stat().st_mtime_ns)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_sweep_does_only_what_is_left_and_ends_in_a_table(call, arguments, tmp_path, capsys):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "TFPT_HOME": str(tmp_path / "home")}
    with (tmp_path / "out.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tfpt", "sweep", *arguments, OVER], stdout=out, stderr=out, env=environment
        )
        folder, limit = tmp_path / "sweeps" / "toy", time.monotonic() + 600
        while len(finished(folder)) < 3 and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = finished(folder)
    assert 3 <= len(before) < 8, (tmp_path / "out.txt").read_text()

    code, out, _ = call([*arguments, OVER])

    after = finished(folder)
    assert (code, len(after)) == (0, 8)
    assert {name: after[name] for name in before} == before
    assert f"{len(before)} of 8 cells are finished already." in out
    assert f"Cell {8 - len(before)} of {8 - len(before)}:" in out
    lines = [line.split() for line in out.splitlines()]
    rows = [line for line in lines if line[1:2] in (["0.001"], ["0.0001"])]
    assert [row[:3] for row in rows] == [
        ["tiny:conv", "0.001", "2"], ["tiny:conv", "0.0001", "2"],
        ["toys.toy_pixels:conv", "0.001", "2"], ["toys.toy_pixels:conv", "0.0001", "2"],
    ]  # fmt: skip
    for row in rows:  # the mean over the two seeds
        cell = f"backbone={row[0].replace(':', '_')},optim.learning_rate={row[1]},train.seed="
        values = [json.loads((folder / f"{cell}{seed}" / "metrics.json").read_text()) for seed in (0, 1)]
        mean = sum(found["test"]["accuracy"]["value"] for found in values) / 2
        assert row[3] == f"{mean:.4f}"

    with pytest.raises(SystemExit):
        table.main([str(folder), "--table.format=latex", "--table.spread=range", "--table.digits=2"])
    written = capsys.readouterr().out.splitlines()
    assert written[2:5] == [
        r"\begin{tabular}{llllr}", r"\toprule", r"run & backbone & optim.learning\_rate & seeds & accuracy \\",
    ]  # fmt: skip
    assert len([line for line in written if r"& 2 &" in line]) == 4
    assert any(r"toys.toy\_pixels:conv & 0.0001 & 2 & " in line for line in written)


def test_failed_cells_are_told_at_the_end_and_tried_again(call, arguments, tmp_path, monkeypatch):
    from tfpt import run

    fit, calls = run.fit_experiment, []

    def failing(experiment, **options):
        calls.append(experiment.train.seed)
        if experiment.train.seed == 0:
            raise RuntimeError("the first\nfails")
        if experiment.train.seed == 1:
            raise UserError("the second fails.")
        return fit(experiment, **options)

    monkeypatch.setattr(run, "fit_experiment", failing)
    over = [*arguments, "--train.epochs=0", "--sweep.over=train.seed=0,1,2", "--json"]
    code, out, err = call(over)
    assert (code, calls) == (1, [0, 1, 2])
    assert json.loads(out)["failed"] == {"train.seed=0": "RuntimeError: the first", "train.seed=1": "the second fails."}
    assert len(json.loads(out)["cells"][0]["runs"]) == 1
    assert "2 cells failed" in err
    call(over)
    assert calls == [0, 1, 2, 0, 1]
    code, _, err = call([*arguments, "--train.epochs=2", "--sweep.over=train.seed=2"])
    assert (code, "holds a run with other settings (train.epochs)" in err + _) == (1, True)


def test_ctrl_c_stops_the_whole_sweep(call, arguments, monkeypatch):
    from tfpt import run

    calls = []

    def pressed(experiment, **_):
        calls.append(experiment.train.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit_experiment", pressed)
    code, *_ = call([*arguments, "--sweep.over=train.seed=0,1,2"])
    assert (code, calls) == (130, [0])
