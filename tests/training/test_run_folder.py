"""What a run that an earlier tfpt has begun goes on with."""

import dataclasses

import pytest

from tfpt import flagfile
from tfpt.errors import UserError
from tfpt.keywords import experiment_from_kwargs
from tfpt.training.run_folder import RunFolder


def experiment(**settings):
    return experiment_from_kwargs(
        task="image_classification", data="digits", backbone="tiny:conv", output={"name": "r"}, **settings
    )


@pytest.fixture
def older(tmp_path):
    """A run folder from before `--input.intensity`."""
    folder = RunFolder(tmp_path)
    folder.write_experiment(experiment())
    file = tmp_path / "experiment.flags"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "input.intensity" not in line))
    assert len(file.read_text().splitlines()) == len(lines) - 1
    return folder


def test_what_was_done_before_there_was_a_flag_is_done_when_an_older_run_goes_on(older):
    for _ in range(2):  # and when it goes on again
        older.check_same(experiment())
        begun = older.as_begun(experiment())
        assert begun == experiment(intensity="full")
        older.check_same(begun)
        older.write_experiment(begun)
    assert "input.intensity" not in flagfile.read(older.path / "experiment.flags")


def test_the_flag_may_say_what_was_done_and_nothing_else(older):
    older.check_same(experiment(intensity="full"))
    assert older.as_begun(experiment(intensity="full")) == experiment(intensity="full")
    with pytest.raises(UserError, match=r"other settings \(input.intensity\)"):
        older.check_same(experiment(intensity="percentile:1,99"))


def test_a_run_of_today_keeps_its_flag(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.as_begun(experiment()) == experiment()
    folder.write_experiment(experiment())
    assert folder.as_begun(experiment()) == experiment()
    with pytest.raises(UserError, match=r"other settings \(input.intensity\)"):
        folder.check_same(experiment(intensity="full"))
    changed = dataclasses.replace(experiment(), train=dataclasses.replace(experiment().train, checkpoint_steps=5))
    folder.write_experiment(changed)
    assert flagfile.read(tmp_path / "experiment.flags")["train.checkpoint_steps"].value == "5"
