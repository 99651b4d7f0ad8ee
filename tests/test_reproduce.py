"""A recorded run is run again and compared."""

import json
import math
import shutil

import pytest

from tfpt import reproduce
from tfpt.errors import UserError
from tfpt.reproduction import Compared, data_differences, environment_differences, weights_differences


@pytest.fixture
def call(capsys):
    def call(*argv):
        with pytest.raises(SystemExit) as ended:
            reproduce.main([str(argument) for argument in argv])
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def recorded(fit, pictures, tmp_path_factory):
    """A run of one seed and its data, which the tests may change in a copy."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copytree(pictures, folder / "data")
    fit(folder, data=f"folder:{folder / 'data'}", epochs=0, publish=False)
    return folder


def test_the_same_run_again_is_equal(call, recorded):
    code, out, _ = call(recorded / "run", "--json")
    found = json.loads(out)
    assert (code, found["reproduced"], found["differences"]) == (0, True, [])
    assert {one["verdict"] for one in found["metrics"]} == {"equal"}
    assert {one["split"] for one in found["metrics"]} == {"validation", "test"}
    assert (recorded / "run-again" / "metrics.json").is_file()
    assert not (recorded / "run-again" / "tensorboard").exists()


def test_each_difference_is_named_and_other_metrics_end_with_1(call, recorded, tmp_path):
    shutil.copytree(recorded / "run", tmp_path / "run")
    for name, change in (
        ("environment.json", {"keras": "3.0.0"}),
        ("weights.json", {"trunk": "0123456789abcdef"}),
        ("metrics.json", {"test": {"accuracy": {"value": 3.0, "low": 2.5, "high": 3.5}}}),
    ):
        file = tmp_path / "run" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code, out, _ = call(tmp_path / "run")
    assert code == 1
    assert "differs  keras: 3.0.0 then, 3." in out
    assert "differs  weights of trunk: 0123456789ab then, " in out
    assert "Not reproduced: test accuracy." in out


def test_a_run_from_before_a_flag_is_run_again_with_what_was_done_then(call, recorded, tmp_path, monkeypatch):
    shutil.copytree(recorded / "run", tmp_path / "run")
    file = tmp_path / "run" / "experiment.flags"
    lines = [line for line in file.read_text().splitlines(keepends=True) if "input.intensity" not in line]
    file.write_text("".join(lines))
    again = []

    def fit_experiment(experiment, **options):
        again.append(experiment)
        raise UserError("seen")

    monkeypatch.setattr("tfpt.run.fit_experiment", fit_experiment)
    assert call(tmp_path / "run")[0] == 2
    assert [experiment.input.intensity for experiment in again] == ["full"]


def test_with_other_data_nothing_is_run(call, recorded, tmp_path):
    more = recorded / "data" / "red" / "more.png"
    more.write_bytes((recorded / "data" / "red" / "0.png").read_bytes() + b" ")
    try:
        code, out, err = call(recorded / "run", f"--reproduce.output={tmp_path / 'new'}")
        assert code == 2
        assert "differs  data, " in out
        assert "is not what" in err and "--reproduce.anyway" in err
        assert call(recorded / "run", "--reproduce.check", f"--reproduce.output={tmp_path / 'new'}")[0] == 1
        assert not (tmp_path / "new").exists()
    finally:
        more.unlink()


def test_verdicts():
    def verdict(then, now, low=None, high=None):
        return Compared(split="test", metric="m", then=then, low=low, high=high, now=now).verdict

    assert verdict(0.5, 0.5 + 1e-9) == "equal"
    assert verdict(0.5, 0.45, 0.4, 0.6) == "within"
    assert verdict(0.5, 0.39, 0.4, 0.6) == "differs"
    assert verdict(0.5, 0.45) == "differs"
    assert verdict(0.5, math.nan, 0.4, 0.6) == "differs"


def test_differences_are_sentences():
    assert environment_differences({"keras": "1", "gpu": "none"}, {"keras": "2", "git": "abc"}) == [
        "keras: 1 then, 2 now", "gpu: none then, not known now", "commit of the working folder: not recorded then, abc now",
    ]  # fmt: skip
    then = {"examples": {"train": 5, "test": 2}, "sha256": {"train": "a", "test": "b"}}
    now = {"examples": {"train": 5, "test": 3}, "sha256": {"train": "c", "test": "d"}}
    assert data_differences(then, now) == ["data, train: others, 5 as then", "data, test: 2 examples then, 3 now"]
    assert data_differences(then, then) == []
    assert weights_differences({"a": "x" * 64}, {"a": "y" * 64}) == [f"weights of a: {'x' * 12} then, {'y' * 12} now"]


def test_what_is_no_run_is_said(call, recorded, tmp_path):
    for argv, says in (([], "the one run folder"), ([tmp_path], "is no run folder")):
        code, _, err = call(*argv)
        assert (code, says in err) == (2, True)
    shutil.copytree(recorded / "run", tmp_path / "run")
    (tmp_path / "run" / "weights.json").unlink()  # an earlier version wrote none
    (tmp_path / "run" / "data.json").unlink()
    code, _, err = call(tmp_path / "run")
    assert (code, "data.json is gone or damaged" in err) == (2, True)


def test_a_finished_run_is_never_taken_for_the_run_again(tmp_path):
    def begun(name, state):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(json.dumps({"state": state}))

    run = tmp_path / "run"
    assert reproduce._place(run, "") == tmp_path / "run-again"
    begun("run-again", "interrupted")
    assert reproduce._place(run, "") == tmp_path / "run-again"
    begun("run-again-2", "failed")
    (tmp_path / "run-again" / "status.json").write_text('{"state": "finished"}')
    assert reproduce._place(run, "") == tmp_path / "run-again-2"
    shutil.rmtree(tmp_path / "run-again-2")
    (tmp_path / "run-again-2").mkdir()
    (tmp_path / "run-again-2" / "metrics.json").write_text("{}")  # of several seeds
    assert reproduce._place(run, "") == tmp_path / "run-again-3"
    assert reproduce._place(run, str(tmp_path / "new")) == tmp_path / "new"
    with pytest.raises(UserError, match=r"--reproduce.output=.*run-again holds a finished run, so nothing would run"):
        reproduce._place(run, str(tmp_path / "run-again"))


def test_what_an_older_record_does_not_hold_is_no_difference():
    now = {"trunk": "a" * 64, "task.head": "b" * 64}
    assert weights_differences({"trunk": "a" * 64}, now) == []
    assert weights_differences({"trunk": "a" * 64, "machine": "one"}, {**now, "machine": "another"}) == []
    assert len(weights_differences({"trunk": "a" * 64, "task.head": "c" * 64}, now)) == 1
