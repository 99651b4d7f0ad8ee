import dataclasses

import pytest

from tfpt import __version__, config, flags
from tfpt.config import Component
from tfpt.errors import UserError

TOY = {"task": "toys.toy_task", "data": "toys.toy_data:photos", "backbone": "toys.toy_trunk:conv"}
NASTY = [
    "Tübingen ✓",
    "a #b",
    "$HOME",
    "${HOME}/x",
    "~/x",
    '"quoted"',
    "O'Brien's",
    "back\\slash\\",
    "\\#\\$\\~",
    r"^(p\d+)_.*$",
    "Latin-1 \udce4",
    "[1]",
]


def made(**options):
    return flags.experiment_from_kwargs(**{**TOY, **options})


@pytest.mark.parametrize("text", NASTY)
def test_an_experiment_comes_back_from_its_file(tmp_path, text):
    one = made(
        data=f"toys.toy_data:{text}",
        data_options={"text": text, "words": ["a", "b"], "rates": (), "limit": 3, "mode": "slow", "shuffle": False},
        train={"epochs": 0, "unfreeze": "regex:^a|b$"},
        splits=text,
        run_dir=text,
        optim={"name": "sgd", "learning_rate": 1 / 3},
    )
    path = tmp_path / "experiment.flags"
    flags.write_flagfile(one, path)
    assert flags.read_experiment(path) == one
    assert flags.differences(flags.read_experiment(path), one) == []


def test_two_trunks_with_different_settings_come_back(tmp_path):
    one = made(
        backbone={"left": "toys.toy_trunk:a", "right": "toys.toy_trunk"}, backbone_options={"right": {"width": 2}}
    )
    flags.write_flagfile(one, tmp_path / "experiment.flags")
    assert flags.read_experiment(tmp_path / "experiment.flags") == one


def test_the_file_holds_defaults_and_the_version(tmp_path):
    path = tmp_path / "experiment.flags"
    flags.write_flagfile(made(), path)
    text = path.read_text()
    assert text.startswith(f"# tfpt {__version__}")
    for group, cls in config.GROUPS.items():
        for field in dataclasses.fields(cls):
            assert f"\n--{group}.{field.name}=" in text
    assert "\n--backbone.weights=imagenet\n" in text


@pytest.mark.parametrize("argument", ["a\nb", "tail\t"])
def test_what_no_line_can_hold_is_refused(tmp_path, argument):
    one = made()
    one = dataclasses.replace(one, data=dataclasses.replace(one.data, argument=argument))
    with pytest.raises(UserError, match="a value cannot"):
        flags.write_flagfile(one, tmp_path / "x.flags")
    assert not list(tmp_path.iterdir())


def test_a_trunk_that_would_not_come_back_is_refused(tmp_path):
    one = made(backbone={"left": "toys.toy_trunk:a,x=b", "right": "toys.toy_trunk"})
    with pytest.raises(UserError, match="no argument holds"):
        flags.write_flagfile(one, tmp_path / "x.flags")


def test_objects_are_named_by_their_class(tmp_path):
    one = made(data=NASTY)
    path = tmp_path / "x.flags"
    flags.write_flagfile(one, path)
    back = flags.read_experiment(path)
    assert flags.differences(back, one) == []
    assert one.data.make() is NASTY
    with pytest.raises(UserError, match="--data=object:list: this experiment was made in Python"):
        back.data.make()


def test_differences_name_flags():
    same = {"output": {"name": "x"}}
    one = made(**same)
    assert flags.differences(one, made(**same)) == []
    assert flags.differences(one, made(epochs=9, data_options={"size": 3}, **same)) == ["data.size", "train.epochs"]
    assert flags.differences(one, made(output={"name": "x", "if_exists": "new"})) == []
    assert flags.differences(one, made(**same, backbone="toys.toy_trunk:b")) == ["backbone"]


def test_a_component_without_config_has_the_defaults():
    one = made()
    bare = dataclasses.replace(one, data=Component(kind="data", name="toys.toy_data", argument="photos"))
    assert flags.differences(one, bare) == []


def test_output_paths(tmp_path):
    one = flags.parse(
        [*(f"--{name}={value}" for name, value in TOY.items()), f"--flagfile={_empty(tmp_path / 'mine.v2.flags')}"]
    )
    assert one.experiment.output == config.Output(
        name="mine.v2", run_dir="runs/mine.v2", model_dir="saved_models/mine.v2"
    )
    assert flags.output_paths(one.experiment) == one.experiment
    named = made(output={"name": "x", "model_dir": "m"}).output
    assert (named.run_dir, named.model_dir) == ("runs/x", "m")


def test_a_made_name_says_what_it_is_and_is_stable():
    name = made().output.name
    assert name == "toy_task-toy_data_photos-toy_trunk_conv-" + name[-8:]
    assert made(batch_size=32).output.name == name  # the default
    assert made(batch_size=64).output.name != name
    assert made(model_dir="elsewhere").output.name == name
    odd = made(data="toys.toy_data:/a/my photos: \udce4 (1)/").output.name
    assert odd.startswith("toy_task-toy_data_my_photos_1-")


def _empty(path):
    path.write_text("")
    return path
