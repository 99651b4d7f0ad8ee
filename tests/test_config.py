import dataclasses
from typing import Literal

import pytest

from tfpt import config
from tfpt.config import Component
from tfpt.errors import UserError
from tfpt.fields import settings_of


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (config.Input, {"image_size": 4}),
        (config.Input, {"max_length": 0}),
        (config.Input, {"split": (70, 20, 20)}),
        (config.Input, {"split": (0, 50, 50)}),
        (config.Input, {"examples_per_class": -1}),
        (config.Input, {"views": 0}),
        (config.Input, {"max_bad_fraction": 1.5}),
        (config.Input, {"group": "("}),
        (config.Train, {"batch_size": 0}),
        (config.Train, {"accumulate": 0}),
        (config.Train, {"accumulate": 3}),
        (config.Train, {"head_epochs": -1}),
        (config.Train, {"epochs": 0, "head_epochs": 0}),
        (config.Train, {"ema": 1.0}),
        (config.Train, {"keep_checkpoints": 0}),
        (config.Train, {"checkpoint_minutes": 0.0}),
        (config.Train, {"unfreeze": "last:0"}),
        (config.Train, {"unfreeze": "regex:("}),
        (config.Train, {"unfreeze": "gradual:0"}),
        (config.Train, {"unfreeze": "gradual:x"}),
        (config.Train, {"lora_rank": -1}),
        (config.Train, {"lora_rank": 4, "unfreeze": "last:2"}),
        (config.Train, {"lora_layers": "("}),
        (config.Optim, {"step_factor": 0.0}),
        (config.Optim, {"step_at": (60, 30)}),
        (config.Optim, {"step_at": (0, 30)}),
        (config.Input, {"sampling": "sqrt", "tokens_per_batch": 100}),
        (config.Input, {"tokens_per_batch": 100, "pad_to": "data"}),
        (config.Optim, {"learning_rate": 0.0}),
        (config.Optim, {"weight_decay": -1.0}),
        (config.Optim, {"warmup": 1.0}),
        (config.Optim, {"layer_decay": 1.1}),
        (config.Optim, {"momentum": 1.0}),
        (config.Runtime, {"threads": -1}),
        (config.Output, {"name": "a/b"}),
        (config.Output, {"name": ".."}),
        (config.Output, {"report_examples": -1}),
        (config.Export, {"version": "0"}),
    ],
)
def test_what_is_out_of_range_names_its_field(cls, values):
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: .") as caught:
        cls(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"unfreeze": "none"},
        {"unfreeze": "last:2"},
        {"unfreeze": "regex:block[56]"},
        {"unfreeze": "gradual"},
        {"unfreeze": "gradual:2"},
    ],
)
def test_ways_to_unfreeze(values):
    assert config.Train(**values).unfreeze == values["unfreeze"]


@pytest.mark.parametrize("group", config.GROUPS)
def test_every_setting_has_help_and_its_default_is_allowed(group):
    for setting in settings_of(group, config.GROUPS[group]):
        assert setting.help.endswith(".") or setting.help.endswith(("several with commas.", "_."))
        assert setting.parse(setting.text(setting.default)) == setting.default


def test_a_setting_of_a_type_that_no_flag_can_have_is_a_programming_error():
    for annotation, default in [(dict, None), (str | None, None), (list[int], None), (Literal[1, 2], 1)]:
        cls = dataclasses.make_dataclass("Odd", [("field", annotation, dataclasses.field(default=default))])
        with pytest.raises(TypeError, match=r"Odd\.field"):
            settings_of("odd", cls)
    with pytest.raises(TypeError, match=r"Odd\.field needs an immutable default"):
        settings_of("odd", dataclasses.make_dataclass("Odd", [("field", int)]))


def test_trunks():
    assert config.split_trunks("tiny:conv") == {"trunk": "tiny:conv"}
    assert config.split_trunks("tiny:x=1,y=2") == {"trunk": "tiny:x=1,y=2"}
    assert config.split_trunks("left=tiny:a=b, right=hf:x,y") == {"left": "tiny:a=b, right=hf:x,y"}
    assert config.split_trunks("left=tiny:a,right=hf:x,y") == {"left": "tiny:a", "right": "hf:x,y"}
    with pytest.raises(UserError, match="same name"):
        config.split_trunks("a=x,a=y")


def test_components():
    component = Component.parse("data", "toys.toy_data: a:b ")
    assert (component.name, component.argument, str(component)) == ("toys.toy_data", "a:b", "toys.toy_data:a:b")
    assert component.config_class().__qualname__ == "ToyData.Config"
    assert Component.given("data", 3).make() == 3
    with pytest.raises(UserError, match="made in Python with an object of the class int"):
        Component.parse("data", "object:int").make()
    with pytest.raises(UserError, match="object of the class int; run it"):
        Component.parse("data", "object:int@0123abcd").make()
    with pytest.raises(UserError, match="--backbone is missing"):
        config.Experiment(task=component, data=component, backbone={})
