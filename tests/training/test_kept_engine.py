"""A run that goes on computes what is frozen as it began, whatever else a machine's memory or the store of features say now."""

import json
import os
import shutil
import signal

import pytest

from tfpt.engines import _choice
from tfpt.training import feature_cache, stages
from tfpt.training.run_folder import RunFolder
from tfpt.weights.home import home

SETTINGS = {"head_epochs": 3, "epochs": 0, "publish": False, "quiet": False}


@pytest.fixture
def asked(monkeypatch):
    """The engines and precisions that were asked for."""
    found, choose = [], _choice.choose

    def told(*arguments, wanted, precision, **named):
        found.append((wanted, precision))
        return choose(*arguments, wanted=wanted, precision=precision, **named)

    monkeypatch.setattr(feature_cache._choice, "choose", told)
    return found


def interrupted(fit, folder, monkeypatch, **settings):
    shutil.rmtree(home(), ignore_errors=True)  # the store of features, and what is remembered of engines
    add_row = RunFolder.add_row

    def press(self, row):
        add_row(self, row)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "add_row", press)
        with pytest.raises(KeyboardInterrupt):
            fit(folder, **settings)
    shutil.rmtree(home(), ignore_errors=True)


def test_the_engine_that_a_stage_began_with_is_taken_again(fit, pictures, tmp_path, monkeypatch, asked):
    settings = {"data": f"folder:{pictures}", **SETTINGS}
    interrupted(fit, tmp_path, monkeypatch, **settings)
    assert json.loads((tmp_path / "run" / "engines.json").read_text())["head"] == "tensorflow float32"
    fit(tmp_path, **settings)
    assert asked == [("auto", "auto"), ("tensorflow", "float32")]


def test_another_may_be_asked_for(fit, pictures, tmp_path, monkeypatch, asked):
    settings = {"data": f"folder:{pictures}", **SETTINGS}
    interrupted(fit, tmp_path, monkeypatch, **settings)
    file = tmp_path / "run" / "engines.json"
    file.write_text('{"head": "openvino bfloat16"}')
    fit(tmp_path, **settings, runtime={"engine": "tensorflow"})
    assert asked[1:] == [("tensorflow", "auto")]


def test_what_was_computed_anew_is_computed_anew(fit, pictures, tmp_path, monkeypatch, asked):
    settings = {"data": f"folder:{pictures}", **SETTINGS}

    def never(seconds):
        raise feature_cache._NotWorthItError

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache.FeatureCache, "_judge", lambda self, passes, mapped: never)
        interrupted(fit, tmp_path, monkeypatch, **settings)
    assert json.loads((tmp_path / "run" / "engines.json").read_text()) == {"head": stages.ANEW}
    asked.clear()
    fit(tmp_path, **settings)
    assert asked == []


def test_an_engine_that_is_gone_is_said(fit, pictures, tmp_path, monkeypatch, asked, capsys):
    settings = {"data": f"folder:{pictures}", **SETTINGS}
    interrupted(fit, tmp_path, monkeypatch, **settings)
    (tmp_path / "run" / "engines.json").write_text('{"head": "openvino bfloat16"}')
    monkeypatch.setattr("tfpt.engines.openvino.Openvino.version", classmethod(lambda cls: ""))
    fit(tmp_path, **settings)
    assert asked[1:] == [("auto", "auto")]
    assert "began with features that openvino computed, which cannot run here" in " ".join(
        capsys.readouterr().out.split()
    )
