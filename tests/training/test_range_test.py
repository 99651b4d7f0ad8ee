"""The learning-rate range test, on curves that are known and on a small run."""

import csv
import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfpt import find_lr, keywords
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import range_test
from tfpt.training.setting import set_up

SMALL = ["--task=image_classification", "--backbone=toys.toy_pixels", "--input.image_size=8", "--train.batch_size=8"]


def test_the_steepest_and_the_lowest_place_of_a_curve_are_found_under_noise():
    rates = np.logspace(-6, 0, 120)
    logs = np.log10(rates)
    losses = 2.0 - 1.5 / (1 + np.exp(-4 * (logs + 3))) + 3.0 * np.clip(logs + 1, 0, None) ** 2
    noisy = losses + np.random.default_rng(0).normal(0, 0.05, 120)
    found = range_test._found("head", rates, noisy)
    assert 10**-3.4 < found.steepest < 10**-2.6
    assert 10**-1.9 < found.lowest < 10**-0.7
    assert found.flag == "optim.head_learning_rate"


def test_a_loss_that_never_falls_is_said():
    with pytest.raises(UserError, match=r"does not fall between a learning rate of 1.0e-06"):
        range_test._found("head", np.logspace(-6, 0, 50), np.linspace(1, 3, 50))


def setting_of(pictures, **options):
    experiment = keywords.experiment_from_kwargs(
        task="image_classification",
        data=f"folder:{pictures}",
        backbone="toys.toy_pixels",
        **{"image_size": 8, "batch_size": 8, "precision": "float32", "augment": "none", **options},
    )
    return set_up(experiment, console=Console(stream=io.StringIO()))


def test_a_test_that_diverges_ends_early_and_finds_a_rate_below_that(pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path))
    found = range_test.range_test(
        setting_of(pictures, optim={"name": "sgd", "clip_norm": 0.0}, head_epochs=1),
        stage="auto",
        lowest=1e-5,
        highest=1e6,
        steps=80,
        console=Console(stream=io.StringIO()),
    )
    assert found.stage == "fine_tune"
    assert len(found.rates) == len(found.losses) < 80
    assert found.rates[0] == pytest.approx(1e-5, rel=1e-3)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e11) / 79, rtol=1e-3)
    assert found.rates[0] < found.steepest <= found.lowest < found.rates[-1]


def test_it_has_the_batches_and_the_head_of_a_run(tmp_path, monkeypatch):
    texts = [f"{'word ' * (1 + k % 20)}{k}" for k in range(60)]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"{text},{k % 2}\n" for k, text in enumerate(texts)))
    experiment = keywords.experiment_from_kwargs(
        task="text_classification", data=f"csv:{tmp_path / 'a.csv'}", backbone="tiny:transformer",
        tokens_per_batch=64, precision="float32", head_epochs=0,
    )  # fmt: skip
    said, loaded, stages = Console(stream=io.StringIO()), [], []
    setting = dataclasses.replace(set_up(experiment, console=said), head=SimpleNamespace(load=loaded.append))
    monkeypatch.setattr(
        range_test, "_losses", lambda stage, *_, **__: stages.append(stage) or 5.0 - np.arange(12, dtype=float)
    )
    range_test.range_test(setting, stage="fine_tune", lowest=1e-5, highest=1.0, steps=12, console=said)
    assert len(loaded) == 1
    rows, lengths = stages[0].plan.rows(0), setting.prepared.lengths
    assert len({len(row) for row in rows}) > 1
    assert all(len(row) * lengths[row].max() <= 64 for row in rows)


def test_a_stage_that_does_not_exist_is_said(pictures):
    with pytest.raises(UserError, match=r"--find_lr.stage=fine_tune: with these flags the head alone trains"):
        range_test.range_test(
            setting_of(pictures, epochs=0),
            stage="fine_tune",
            lowest=1e-5,
            highest=1.0,
            steps=10,
            console=Console(stream=io.StringIO()),
        )


def test_the_program_draws_and_writes_what_it_found(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    flags = [f"--data=folder:{pictures}", "--find_lr.stage=head", "--find_lr.steps=30", "--output.name=mine", "--json"]
    with pytest.raises(SystemExit) as ended:
        find_lr.main([*SMALL, *flags, "--train.precision=float32"])
    assert ended.value.code == 0
    folder = tmp_path / "find_lr" / "mine"
    assert sorted(f.name for f in folder.iterdir()) == [f"learning_rate.{kind}" for kind in ("csv", "png", "svg")]
    assert Image.open(folder / "learning_rate.png").size > (600, 300)
    assert "learning rate" in (folder / "learning_rate.svg").read_text()
    rows = list(csv.DictReader((folder / "learning_rate.csv").open()))
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert (said["stage"], said["flag"]) == ("head", "optim.head_learning_rate")
    assert any(float(row["learning_rate"]) == pytest.approx(said["steepest"], rel=1e-3) for row in rows)
    assert f"--optim.head_learning_rate={said['steepest']:.1e}" in printed.err
    assert not (tmp_path / "runs").exists()


def test_its_flags_are_checked():
    for values in ({"lowest": 0.0}, {"lowest": 1.0, "highest": 0.1}, {"steps": 3}):
        with pytest.raises(ValueError, match=f"^{list(values)[-1]}: "):
            find_lr.Options(**values)
