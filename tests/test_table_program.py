"""Runs in a table: what is one row, what its numbers are, how it is written."""

import csv
import io
import json
import statistics

import pytest

from tfpt import compare_runs, record, table, table_formats
from tfpt.compare_runs import compare, find_runs
from tfpt.errors import UserError
from tfpt.keywords import experiment_from_kwargs


def write_run(folder, *, accuracy=0.9, low=None, high=None, loss=0.3, metrics=None, **options):
    options = {"task": "image_classification", "data": "digits", "backbone": "tiny:conv", **options}
    experiment = experiment_from_kwargs(**options, output={"run_dir": str(folder), "name": folder.name})
    folder.mkdir(parents=True)
    record.write_flagfile(experiment, folder / "experiment.flags")
    values = {
        "accuracy": {"value": accuracy, "low": low, "high": high},
        "loss": {"value": loss, "low": None, "high": None},
    }
    found = {"primary": "accuracy", "higher_is_better": True, "test": values, **(metrics or {})}
    (folder / "metrics.json").write_text(json.dumps(found))
    return folder


@pytest.fixture
def call(capsys):
    def call(*argv):
        with pytest.raises(SystemExit) as ended:
            table.main([str(argument) for argument in argv])
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def grid(tmp_path):
    """Two rates with three seeds each, and a run of another backbone with its own interval."""
    for rate, values in ((1e-3, (0.90, 0.92, 0.97)), (1e-4, (0.80, 0.81, 0.79))):
        for seed, accuracy in enumerate(values):
            write_run(tmp_path / f"r{rate}s{seed}", accuracy=accuracy, learning_rate=rate, seed=seed)
    write_run(tmp_path / "other", accuracy=0.95, low=0.9, high=0.98, backbone="tiny:transformer")
    return tmp_path


def test_seeds_are_one_row_with_the_interval_of_their_mean(grid):
    runs, notes = find_runs([grid])
    found = compare(runs)
    assert (found.flags, found.metrics, notes) == (("backbone", "optim.learning_rate"), ("accuracy",), [])
    by_flags = {tuple(row.flags.values()): row for row in found.rows}
    assert {flags: len(row.runs) for flags, row in by_flags.items()} == {
        ("tiny:conv", "0.001"): 3, ("tiny:conv", "0.0001"): 3, ("tiny:transformer", "0.001"): 1,
    }  # fmt: skip
    several = by_flags["tiny:conv", "0.001"].values["accuracy"]
    values = (0.90, 0.92, 0.97)
    half = 4.302653 * statistics.stdev(values) / 3**0.5  # Student's t with two degrees of freedom
    assert several.value == pytest.approx(statistics.mean(values))
    assert (several.low, several.high) == pytest.approx((several.value - half, several.value + half))
    assert by_flags["tiny:transformer", "0.001"].values["accuracy"] == compare_runs.Value(0.95, 0.9, 0.98)
    assert found.best("accuracy") == [by_flags["tiny:transformer", "0.001"]]


def test_the_range_over_seeds_and_all_metrics(grid):
    found = compare(find_runs([grid])[0], metrics=["all"], spread="range", flags=["train.batch_size"])
    assert (found.metrics, found.flags) == (("accuracy", "loss"), ("train.batch_size",))
    ends = {(row.values["accuracy"].low, row.values["accuracy"].high) for row in found.rows}
    assert ends == {(0.90, 0.97), (0.79, 0.81), (0.9, 0.98)}


def test_a_run_of_several_seeds_counts_by_its_seeds(tmp_path):
    for seed, accuracy in ((0, 0.5), (1, 0.7)):
        write_run(tmp_path / "mine" / f"seed-{seed}", accuracy=accuracy, seed=seed)
    (tmp_path / "mine" / "experiment.flags").write_text("--task=image_classification\n")
    (tmp_path / "mine" / "metrics.json").write_text("{}")
    (row,) = compare(find_runs([tmp_path / "mine"])[0], spread="range").rows
    assert (row.name, len(row.runs), row.values["accuracy"].value) == ("mine", 2, pytest.approx(0.6))


def test_the_same_seed_twice_counts_once(tmp_path):
    import os

    first, last = (write_run(tmp_path / name, accuracy=value) for name, value in (("b", 0.9), ("a", 0.5)))
    os.utime(first / "metrics.json", (10, 10))
    found = compare(find_runs([first, last])[0])
    assert [row.values["accuracy"].value for row in found.rows] == [0.5]
    assert f"{first} and {last} are the same experiment with seed 0" in found.notes[0]


def test_settings_that_an_earlier_version_lacked_are_at_their_default(tmp_path):
    old, new = write_run(tmp_path / "old"), write_run(tmp_path / "new", seed=1)
    lines = (old / "experiment.flags").read_text().splitlines()
    (old / "experiment.flags").write_text("\n".join(line for line in lines if "optim.momentum" not in line))
    assert len(compare(find_runs([old, new])[0]).rows) == 1


def test_a_components_own_settings_are_a_column_only_where_they_tell_something(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", backbone="applications:MobileNetV2")
    assert compare(find_runs([tmp_path])[0]).flags == ("backbone",)
    write_run(tmp_path / "c", backbone="applications:MobileNetV2", backbone_options={"weights": "none"})
    assert compare(find_runs([tmp_path])[0]).flags == ("backbone", "backbone.weights")


def test_unfinished_runs_are_named_and_left_out(call, grid):
    (grid / "other" / "metrics.json").unlink()
    code, out, _ = call(grid)
    assert code == 0
    assert f"{grid / 'other'} has no results yet" in out
    assert "tiny:transformer" not in out
    code, _, err = call(grid / "other")
    assert (code, "has results yet" in err) == (2, True)


def test_csv_holds_every_digit_and_nothing_else(call, grid):
    code, out, err = call(grid, "--table.format=csv", "--table.metrics=accuracy,loss")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 3
    other = next(row for row in rows if row["run"] == "other")
    assert (other["seeds"], other["accuracy"], other["accuracy_low"], other["loss_high"]) == ("1", "0.95", "0.9", "")
    assert "Student" in err


def test_latex_is_escaped_and_the_best_is_bold(tmp_path):
    write_run(tmp_path / "50%_{a}", accuracy=0.5, low=0.25, high=0.75, learning_rate=0.1)
    write_run(tmp_path / "b&c", accuracy=0.75, learning_rate=0.2)
    found = table_formats.latex(compare(find_runs([tmp_path])[0], metrics=["all"]), names=True, digits=2)
    assert found == "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"% In brackets, one seed: 95 % interval over test examples.",
            r"\begin{tabular}{llrr}",
            r"\toprule",
            r"run & optim.learning\_rate & accuracy & loss \\",
            r"\midrule",
            r"50\%\_\{a\} & 0.1 & 0.50 {\footnotesize [0.25, 0.75]} & \textbf{0.30} \\",
            r"b\&c & 0.2 & \textbf{0.75} & \textbf{0.30} \\",
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def test_markdown_and_text(grid):
    found = compare(find_runs([grid])[0], spread="range")
    shown = table_formats.markdown(found, names=False, digits=3).splitlines()
    assert shown[0] == "| backbone | optim.learning_rate | seeds | accuracy |"
    assert "| tiny:transformer | 0.001 | 1 | **0.950 [0.900, 0.980]** |" in shown
    aligned = table_formats.text(found, names=False, digits=3).splitlines()
    assert aligned[0].split() == ["backbone", "optim.learning_rate", "seeds", "accuracy"]
    assert len(aligned) == 5


def test_what_is_not_there_is_said(call, tmp_path, grid):
    for argv, says in (
        ([], "Write the run folders"),
        ([tmp_path / "absent"], "holds no run"),
        ([grid, "--table.metrics=f1"], "--table.metrics=f1: no run has it; there are accuracy, loss"),
        ([grid, "--table.split=validation"], "none of these runs was measured"),
        ([grid, "--table.flags=train.speed"], "--table.flags=train.speed: no run has such a setting"),
    ):
        code, _, err = call(*argv)
        assert (code, says in err) == (2, True), err
    (grid / "other" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"other/metrics\.json is damaged"):
        find_runs([grid])


def test_json(call, grid):
    code, out, _ = call(grid, "--json")
    rows = json.loads(out)
    assert code == 0
    assert {row["name"] for row in rows} >= {"other"}
    assert next(row for row in rows if row["name"] == "other")["test"]["accuracy"]["low"] == 0.9
