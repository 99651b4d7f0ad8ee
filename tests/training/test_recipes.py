"""Whole runs: adapters, gradual unfreezing and other runs' weights, each stopped and gone on with."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Train
from tfpt.errors import UserError
from tfpt.training.init_from import open_weights
from tfpt.training.recipe import Part, recipe
from tfpt.training.run_folder import RunFolder

TIMING = ("seconds", "examples_per_second", "evaluation_seconds")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Sentences whose class is a word in them."""
    random = np.random.default_rng(0)
    words = ["river", "stone", "cloud", "letter", "market"]
    rows = [
        f"{' '.join(random.permutation([*words[: 1 + k % 5], ['awful', 'great'][k % 2]]))} {k}\t{['bad', 'good'][k % 2]}"
        for k in range(48)
    ]
    file = tmp_path_factory.mktemp("texts") / "texts.tsv"
    file.write_text("text\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def adapters(texts):
    return {
        "task": "text_classification",
        "data": f"csv:{texts}",
        "backbone": "toys.toy_words",
        "max_length": 12,
        "head_epochs": 1,
        "epochs": 2,
        "lora_rank": 2,
        "lora_layers": "mixed|words",
        "ema": 0.9,
        "batch_size": 6,
        "precision": "float32",
    }


@pytest.fixture
def gradual(pictures):
    return {
        "data": f"folder:{pictures}",
        "backbone": "toys.toy_pixels",
        "head_epochs": 1,
        "epochs": 3,
        "unfreeze": "gradual",
        "batch_norm": "train",
        "layer_decay": 0.8,
        "precision": "float32",
        "publish": False,
        "split": (70, 0, 30),
    }


def last_values(run):
    folder = max((run.folder / "checkpoints").glob("final-*"))
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith("variables/")]
    return {n: reader.get_tensor(n) for n in names}


def untimed(history):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in history]


def stop_after(patch, total_steps):
    """Presses Ctrl-C when the row of an update is written."""
    add_row = RunFolder.add_row

    def press(self, row):
        add_row(self, row)
        if row["total_steps"] == total_steps and row["split"] == "train":
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(RunFolder, "add_row", press)


def assert_same_after_stops(fit, tmp_path, settings, monkeypatch, moments):
    """Trains once in one go and once stopped at some updates; returns the first run."""
    whole = fit(tmp_path / "whole", **settings)
    settings = {**settings, "publish": False}
    for moment in moments(whole):
        with monkeypatch.context() as patch:
            stop_after(patch, moment)
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path / "stopped", **settings)
    stopped = fit(tmp_path / "stopped", **settings)
    ours, theirs = last_values(whole), last_values(stopped)
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []
    assert untimed(whole.history) == untimed(stopped.history)
    return whole


def ends(run):
    """Returns stage -> its last update in all."""
    return {row["stage"]: row["total_steps"] for row in run.history}


def test_adapters_end_bit_equal_after_stops_and_are_not_in_the_export(adapters, fit, tmp_path, monkeypatch):
    whole = assert_same_after_stops(
        fit, tmp_path, adapters, monkeypatch, lambda run: [ends(run)["head"] + 3, ends(run)["fine_tune"]]
    )
    assert "Adapters of rank 2 on 2 layers" in (whole.folder / "log.txt").read_text()
    assert whole.metrics["parity"]["passed"]
    names = set(open_weights(str(whole.model_folder)).shapes)
    assert not [name for name in names if "lora" in name]
    trunk = tf.saved_model.load(str(whole.model_folder / "assets.extra" / "trunk"))
    assert len(trunk.trainable_variables) == len(trunk.variables) == len(names) - 2


def stage_weights(run, stage):
    """Returns name -> value of the model's weights as a stage began with them."""
    folder = next((run.folder / "checkpoints").glob(f"carried-{stage:02d}-*"))
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    names = list(open_weights(str(run.folder)).shapes)
    return {name: reader.get_tensor(f"variables/{k}/.ATTRIBUTES/VARIABLE_VALUE") for k, name in enumerate(names)}


def test_gradual_unfreezing_frees_the_deepest_first_and_ends_bit_equal_after_stops(gradual, fit, tmp_path, monkeypatch):
    whole = assert_same_after_stops(
        fit, tmp_path, gradual, monkeypatch, lambda run: [ends(run)["unfreeze_1"], ends(run)["unfreeze_2"] - 1]
    )
    stages = list(dict.fromkeys(row["stage"] for row in whole.history))
    assert stages == ["head", "unfreeze_1", "unfreeze_2", "fine_tune"]
    weights = [stage_weights(whole, stage) for stage in (1, 2, 3)]
    for before, after, moved in zip(weights, weights[1:], ({4, 5}, {2, 3, 4, 5}), strict=False):
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        assert {name[5] for name in changed if name.startswith("block")} == {str(k) for k in moved}


@pytest.mark.parametrize(
    ("options", "groups", "wanted"),
    [
        ({}, 6, [("head", 5, "none"), ("fine_tune", 5, "all")]),
        ({"unfreeze": "none"}, 6, [("head", 10, "none")]),
        ({"epochs": 0}, 6, [("head", 5, "none")]),
        ({"unfreeze": "last:2", "head_epochs": 0}, 6, [("head", 0, "none"), ("fine_tune", 5, "last:2")]),
        ({"lora_rank": 4}, 6, [("head", 5, "none"), ("fine_tune", 5, "adapters")]),
        (
            {"unfreeze": "gradual", "epochs": 3},
            6,
            [("head", 5, "none"), ("unfreeze_1", 1, "last:2"), ("unfreeze_2", 1, "last:4"), ("fine_tune", 1, "all")],
        ),
        (
            {"unfreeze": "gradual:4", "epochs": 5},
            6,
            [("head", 5, "none"), ("unfreeze_1", 1, "last:4"), ("fine_tune", 4, "all")],
        ),
        (
            {"unfreeze": "gradual:1", "epochs": 2},
            6,
            [("head", 5, "none"), ("unfreeze_1", 1, "last:1"), ("fine_tune", 1, "last:2")],
        ),
        ({"unfreeze": "gradual", "epochs": 9}, 1, [("head", 5, "none"), ("fine_tune", 9, "all")]),
    ],
)
def test_the_stages_of_a_recipe(options, groups, wanted):
    parts = recipe(Train(**options), groups=groups)
    assert parts == tuple(Part(name=name, epochs=epochs, unfreeze=unfreeze) for name, epochs, unfreeze in wanted)


def test_adapters_that_no_layer_can_have_are_told_before_training(adapters, fit, tmp_path):
    with pytest.raises(UserError, match=r"--train.lora_layers=\^nothing"):
        fit(tmp_path, **{**adapters, "lora_layers": "^nothing"})
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
