"""Where the backbone stays as it is, what measures the model goes through it once; what is reported is the same."""

import json
import shutil

import pytest

from tfpt.serving import parity
from tfpt.training.feature_cache import FeatureCache
from tfpt.weights.home import home

HEAD = {"head_epochs": 2, "epochs": 0}
RUNS = {
    "head": (HEAD, True),
    "unfreeze none": ({"head_epochs": 1, "epochs": 1, "unfreeze": "none"}, True),
    "bfloat16": ({**HEAD, "precision": "bfloat16"}, True),
    "calibrated": ({**HEAD, "task_options": {"temperature": "auto"}}, True),
    "last group": ({"head_epochs": 1, "epochs": 1, "unfreeze": "last:1"}, False),
    "not kept": ({**HEAD, "feature_cache": "off"}, False),
}


@pytest.fixture
def asked(monkeypatch):
    """The examples whose features were asked for of the model itself, and how many went through the backbone."""
    found, computed = [], []
    exact, compute = FeatureCache.exact, FeatureCache._computed
    monkeypatch.setattr(FeatureCache, "exact", lambda cache, k: found.append(len(k)) or exact(cache, k))
    monkeypatch.setattr(
        FeatureCache,
        "_computed",
        lambda cache, one, *a, **named: computed.append(one.count) or compute(cache, one, *a, **named),
    )
    return found, computed


def metrics_of(folder):
    found = json.loads((folder / "run" / "metrics.json").read_text())
    return {part: {name: one["value"] for name, one in found[part].items()} for part in ("validation", "test")}


@pytest.mark.parametrize("name", RUNS)
def test_it_is_measured_as_without(fit, pictures, tmp_path, asked, name):
    settings, kept = RUNS[name]
    shutil.rmtree(home() / "features", ignore_errors=True)
    settings = {"data": f"folder:{pictures}", "publish": False, "engine": "tensorflow", **settings}
    fit(tmp_path / "kept", **settings)
    assert bool(asked[0]) == kept
    fit(tmp_path / "anew", **{**settings, "feature_cache": "off"})
    wanted = metrics_of(tmp_path / "anew")
    for part, metrics in metrics_of(tmp_path / "kept").items():
        assert metrics == pytest.approx(wanted[part], abs=1e-4), part


def test_another_head_finds_all_of_it(fit, pictures, tmp_path, asked):
    shutil.rmtree(home() / "features", ignore_errors=True)
    settings = {"data": f"folder:{pictures}", "publish": False, "engine": "tensorflow", **HEAD}
    fit(tmp_path / "one", **settings)
    assert len(asked[1]) == 3  # training, validation, test
    fit(tmp_path / "other", **settings, head_learning_rate=0.1)
    assert len(asked[1]) == 3


def test_a_run_that_ended_before_it_was_measured_finds_them_too(fit, pictures, tmp_path, monkeypatch, asked):
    shutil.rmtree(home() / "features", ignore_errors=True)
    settings = {"data": f"folder:{pictures}", "engine": "tensorflow", **HEAD}
    with monkeypatch.context() as patch:
        patch.setattr(parity, "choose", lambda *a, **k: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            fit(tmp_path, **settings)
    before = len(asked[0])
    fit(tmp_path, **settings)
    assert len(asked[0]) - before == 2  # validation and test; it did not train again
