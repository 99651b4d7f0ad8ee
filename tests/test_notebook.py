"""What a run shows in a notebook, and what is left of it when its cell is interrupted."""

import builtins
import json
import re

import pytest

import tfpt.run
from tfpt.errors import Preempted, UserError
from tfpt.evaluation import inline
from tfpt.training import tracking

METRICS = {
    "primary": "accuracy",
    "validation": {"accuracy": {"value": 0.5, "low": None, "high": None}},
    "test": {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0}, "macro_f1": {"value": None}},
    "classes": ["<script>", "b"],
    "confusion": [[3, 1], [0, 4]],
}
HISTORY = [
    {"split": "train", "total_steps": 1, "loss": 1.0, "stage": "head", "epoch": 0.5},
    {"split": "validation", "total_steps": 2, "loss": 0.9, "accuracy": 0.5, "stage": "head", "epoch": 1.0},
]


def test_numbers_curves_and_confusion_stand_in_the_page():
    page = inline.page("mine & yours", METRICS, HISTORY, note="a note")
    assert "<b>mine &amp; yours</b><div>a note</div>" in page
    assert "0.7500 (0.5000 to 1.0000)" in page
    labels = re.findall(r'aria-label="([^"]+)"', page)
    assert labels == ["loss over training", "accuracy over training", "confusion matrix of 2 classes"]
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_a_run_that_was_not_measured_shows_its_curves():
    page = inline.page("x", {}, HISTORY)
    assert re.findall(r'aria-label="([^"]+)"', page) == ["loss over training", "accuracy over training"]
    assert "<table>" not in page
    assert "aria-label" not in inline.page("x", {}, [])


@pytest.fixture
def stopped(monkeypatch):
    """Presses Ctrl-C when the second row of history is told."""

    def stopped(error):
        rows = []

        def add(self, row):
            rows.append(row)
            if len(rows) == 2:
                raise error

        monkeypatch.setattr(tracking.Tracking, "add", add)

    return stopped


def test_an_interrupted_cell_returns_the_run_so_far(fit, pictures, tmp_path, monkeypatch, stopped):
    options = {"data": f"folder:{pictures}", "epochs": 0, "head_epochs": 2, "publish": False}
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__IPYTHON__", True, raising=False)
        stopped(KeyboardInterrupt())
        run = fit(tmp_path, **options)
    assert (run.interrupted, run.metrics, run.model_folder) == (True, {}, None)
    assert len(run.history) == 2
    assert "Interrupted" in run._repr_html_()
    with pytest.raises(UserError, match="was interrupted, so there is no model yet"):
        run.predict(["x.png"])
    monkeypatch.undo()
    again = fit(tmp_path, **options)
    assert not again.interrupted
    assert again.metrics["test"]["accuracy"]["value"] >= 0
    assert "confusion matrix of 3 classes" in again._repr_html_()


@pytest.mark.parametrize(("error", "notebook"), [(KeyboardInterrupt, False), (Preempted, True)])
def test_elsewhere_ctrl_c_stops_the_program(fit, tmp_path, monkeypatch, error, notebook):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"state": "interrupted"}')
    monkeypatch.setattr(builtins, "__IPYTHON__", notebook, raising=False)

    def pressed(experiment, console):
        raise error

    monkeypatch.setattr(tfpt.run, "fit_experiment", pressed)
    with pytest.raises(error):
        fit(tmp_path, data="digits")


def test_of_several_seeds_the_one_that_was_stopped_is_found(fit, tmp_path, monkeypatch):
    row = {"split": "train", "loss": 1.0}
    for seed, state in ((0, "finished"), (1, "interrupted")):
        (tmp_path / "run" / f"seed-{seed}").mkdir(parents=True)
        (tmp_path / "run" / f"seed-{seed}" / "status.json").write_text(json.dumps({"state": state}))
        (tmp_path / "run" / f"seed-{seed}" / "metrics.jsonl").write_text(json.dumps({**row, "seed": seed}))
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)

    def pressed(experiment, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(tfpt.run, "fit_experiment", pressed)
    run = fit(tmp_path, data="digits", seeds=(0, 1))
    assert (run.interrupted, run.folder, run.history) == (True, tmp_path / "run", [{**row, "seed": 1}])


def test_a_run_that_was_never_begun_returns_nothing(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    monkeypatch.setattr(
        tfpt.run, "fit_experiment", lambda experiment, console: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, data="digits")
