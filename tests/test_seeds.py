import json

import pytest

from tfpt import seeds
from tfpt.errors import UserError


def metrics(value, higher=True, validation=True):
    found = {"primary": "m", "higher_is_better": higher, "test": {"m": {"value": value + 1, "low": None, "high": None}}}
    return found | ({"validation": {"m": {"value": value, "low": None, "high": None}}} if validation else {})


def test_the_best_seed_is_chosen_on_validation():
    assert seeds.best_seed({4: metrics(0.5), 2: metrics(0.7), 9: metrics(0.6)}) == 2
    assert seeds.best_seed({4: metrics(0.5, higher=False), 2: metrics(0.7, higher=False)}) == 4
    assert seeds.best_seed({4: metrics(0.5, validation=False), 2: metrics(0.7, validation=False)}) == 4


def test_mean_and_range_are_those_of_the_runs():
    found = seeds.spread([metrics(0.5), metrics(1.0), metrics(0.75)])
    assert found["test"]["m"] == {
        "value": pytest.approx(1.75),
        "low": 1.5,
        "high": 2.0,
        "deviation": pytest.approx(0.25),
    }


def test_what_is_not_a_number_in_one_run_has_no_mean_and_wins_nothing():
    none, of_one = metrics(0.5), metrics(1.0)
    none["test"]["m"]["value"] = none["validation"]["m"]["value"] = None  # as metrics.json has it
    of_one["test"]["of one run"] = {"value": 1.0}
    found = seeds.spread([of_one, none])
    assert found["test"] == {"m": {"value": None, "low": None, "high": None, "deviation": None}}
    assert seeds.best_seed({4: none, 2: metrics(-0.5)}) == 2
    assert seeds.best_seed({4: none, 2: metrics(0.5, higher=False)}) == 2


@pytest.mark.parametrize("publish", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_several_seeds_train_several_runs_and_export_the_best(fit, pictures, tmp_path, publish):
    options = {"data": f"folder:{pictures}", "epochs": 0, "seeds": (0, 3), "publish": publish}
    run = fit(tmp_path, **options)
    values = [
        json.loads((tmp_path / "run" / f"seed-{seed}" / "metrics.json").read_text())["test"]["accuracy"]["value"]
        for seed in (0, 3)
    ]
    found = run.metrics["test"]["accuracy"]
    assert (found["low"], found["high"]) == (min(values), max(values))
    assert found["value"] == pytest.approx(sum(values) / 2)
    assert run.metrics["best_seed"] in (0, 3)
    assert [folder.name for folder in (tmp_path / "models").glob("*")] == ["1"] * publish
    assert run.model_folder == ((tmp_path / "models" / "1").resolve() if publish else None)
    again = fit(tmp_path, **options)  # nothing is left to do
    assert (again.metrics["test"], again.model_folder) == (run.metrics["test"], run.model_folder)
    assert [folder.name for folder in (tmp_path / "models").glob("*")] == ["1"] * publish


def test_an_export_of_seeds_that_were_not_trained_says_so(tmp_path):
    from tfpt.config import Component, Experiment, Output, Train

    experiment = Experiment(
        task=Component.parse("task", "image_classification"),
        data=Component.parse("data", "digits"),
        backbone={"trunk": Component.parse("backbone", "tiny:conv")},
        train=Train(seeds=(0, 1)),
        output=Output(run_dir=str(tmp_path)),
    )
    with pytest.raises(UserError, match=r"--output.run_dir=.* holds no run of --train.seeds"):
        seeds.trained_best(experiment)
