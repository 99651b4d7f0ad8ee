import sys
from pathlib import Path

import numpy as np
import pytest

from tfpt import config
from tfpt.config import Component
from tfpt.errors import UserError
from tfpt.keywords import experiment_from_kwargs

TOY = {"task": "toys.toy_task", "data": "toys.toy_data:photos", "backbone": "toys.toy_trunk:conv"}


def made(**options):
    return experiment_from_kwargs(**{**TOY, **options})


def test_bare_names_groups_and_dataclasses(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--train.epochs=9", "--nonsense"])
    one = made(epochs=np.int64(2), train={"seed": 3}, optim=config.Optim(name="sgd"), split=[80, 10, 10])
    assert (one.train.epochs, one.train.seed, one.optim.name, one.input.split) == (2, 3, "sgd", (80, 10, 10))
    assert type(one.train.epochs) is int


def test_a_bare_name_stays_whose_it_was_when_another_group_gets_it():
    one = made(warmup=0.25, export={"warmup": "none"})
    assert (one.optim.warmup, one.export.warmup) == (0.25, "none")
    assert made(warmup=0.25).export.warmup == "synthetic"


def test_component_settings():
    one = made(
        task_options={"dropout": 0.5},
        data_options={"limit": None, "size": "auto", "words": ["a"], "rate": np.float32(0.5)},
        backbone_options={"weights": Path("w.h5")},
    )
    assert one.task.config.dropout == 0.5
    assert (one.data.config.words, one.data.config.rate) == (("a",), 0.5)
    assert one.backbone["trunk"].config.weights == "w.h5"


def test_several_trunks():
    text = "left=toys.toy_trunk:a,right=toys.toy_trunk:b"
    one = made(backbone=text, backbone_options={"width": 2})
    assert [(name, trunk.argument, trunk.config.width) for name, trunk in one.backbone.items()] == [
        ("left", "a", 2),
        ("right", "b", 2),
    ]
    one = made(backbone=text, backbone_options={"right": {"width": 2}})
    assert [trunk.config.width for trunk in one.backbone.values()] == [8, 2]


def test_objects_stay_what_they_are():
    data, trunk = object(), object()
    one = made(data=data, backbone={"left": trunk, "right": "toys.toy_trunk"})
    assert one.data.make() is data
    assert one.backbone["left"].make() is trunk
    assert one.data == Component(kind="data", name="object", argument="object", instance=data)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epoch": 1}, "epoch: there is no such keyword; did you mean epochs?"),
        ({"lr": 1}, "lr: there is no such keyword; write learning_rate."),
        ({"fp16": True}, "write precision=float16."),
        ({"dropout": 0.1}, "write task_options={...} with dropout."),
        ({"name": "x"}, 'write optim={"name": ...} or output={"name": ...}.'),
        ({"epochs": 1, "train": {"epochs": 2}}, "epochs is given twice"),
        ({"epochs": 1, "train": config.Train()}, "epochs is given twice"),
        ({"train": 3}, "train=3: write train={...}"),
        ({"train": {"epoch": 1}}, "train.epoch: there is no such setting; did you mean epochs?"),
        ({"epochs": "many"}, "train.epochs=many is not a whole number."),
        ({"epochs": 1.5}, "train.epochs=1.5 is not a whole number."),
        ({"epochs": True}, "train.epochs=True is not a whole number."),
        ({"publish": 1}, "export.publish=1 is not true or false."),
        ({"resize": "crp"}, "did you mean crop?"),
        ({"learning_rate": -1}, "optim.learning_rate=-1.0 is not positive."),
        ({"data_options": {"words": ["a,b"]}}, "cannot hold a comma"),
        ({"data": Path("photos")}, 'write data="NAME:photos"'),
        ({"data": [1], "data_options": {"size": 1}}, "has its own settings"),
        ({"data": "nothing"}, "there is no such data"),
        ({"backbone": {}}, "--backbone is missing"),
    ],
)
def test_what_is_refused(options, sentence):
    with pytest.raises(UserError) as caught:
        made(**options)
    assert sentence in str(caught.value)
