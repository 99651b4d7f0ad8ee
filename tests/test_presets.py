"""Settings that belong together, on the command line, in a file and in Python."""

import pytest

from tfpt import flags, keywords, presets
from tfpt.errors import UserError
from tfpt.tasks.text_classification import TextClassification

EXPERIMENT = ["--task=image_classification", "--data=digits", "--backbone=tiny:conv"]
TEXTS = ["--task=text_classification", "--data=csv:x.csv", "--backbone=tiny:transformer"]


@pytest.mark.parametrize("name", presets.PRESETS)
def test_each_preset_can_be_parsed_and_every_value_is_in_force(name):
    preset = presets.PRESETS[name]
    for modality, wanted in preset.flags.items():
        parsed = flags.parse([*(EXPERIMENT if modality == "image" else TEXTS), f"--preset={name}"])
        rows = dict(flags.to_rows(parsed.experiment))
        for flag, value in wanted.items():
            assert flag in rows
            assert rows[flag] == value or float(rows[flag]) == float(value)
            assert f"--{flag}={value}" in parsed.notes[0]
        assert preset.origin in parsed.notes[1]


def test_what_is_given_by_itself_wins_wherever_it_stands(tmp_path):
    file = tmp_path / "mine.flags"
    file.write_text("--preset=strong\n--train.epochs=7\n")
    parsed = flags.parse([f"--flagfile={file}", "--optim.schedule=linear", *EXPERIMENT])
    train, optim = parsed.experiment.train, parsed.experiment.optim
    assert (train.epochs, train.head_epochs, optim.schedule) == (7, 10, "linear")
    assert "--train.head_epochs=10" in parsed.notes[0]
    assert "--train.epochs" not in parsed.notes[0]
    parsed = flags.parse([f"--flagfile={file}", "--preset=quick", *EXPERIMENT])
    assert (parsed.experiment.train.epochs, parsed.experiment.train.head_epochs) == (7, 20)


def test_the_experiment_that_is_written_has_the_values_and_no_preset(tmp_path):
    parsed = flags.parse([*EXPERIMENT, "--preset=bit_medium"])
    flags.write_flagfile(parsed.experiment, tmp_path / "experiment.flags")
    assert "preset" not in (tmp_path / "experiment.flags").read_text()
    assert flags.read_experiment(tmp_path / "experiment.flags") == parsed.experiment


def test_without_a_preset_nothing_is_said():
    assert flags.parse(EXPERIMENT).notes == ()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*EXPERIMENT, "--preset=fast"], "--preset=fast: there is no such preset; there are quick, strong"),
        ([*TEXTS, "--preset=bit_small"], "--preset=bit_small is for image, and --task is for text"),
        (["--preset=quick"], "--preset=quick depends on the task"),
        ([*EXPERIMENT, "--preset=quick", "--train.head_epochs=0"], "nothing to train"),
    ],
)
def test_what_does_not_fit_is_said(arguments, says):
    with pytest.raises(UserError) as error:
        flags.parse(arguments)
    assert says in str(error.value)


@pytest.mark.parametrize("task", ["text_classification", TextClassification()], ids=["name", "object"])
def test_presets_in_python(task):
    made = keywords.experiment_from_kwargs(task=task, data="csv:x.csv", backbone="tiny", preset="strong", epochs=3)
    assert (made.train.epochs, made.optim.learning_rate, made.optim.schedule) == (3, 2e-5, "linear")
    with pytest.raises(UserError, match="there is no such preset"):
        keywords.experiment_from_kwargs(task=task, data="csv:x.csv", backbone="tiny", preset="fast")
