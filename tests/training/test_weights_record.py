"""weights.json, and with which weights a run may go on."""

import functools
import io
import json

import pytest

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import weights_record
from tfpt.training.weights_record import MACHINE, where_made

WEIGHTS = {"trunk": "a" * 64, "train.init_from": "b" * 64}
THEN = {**WEIGHTS, MACHINE: where_made()}
check_same = functools.partial(weights_record.check_same, console=Console(stream=io.StringIO()))


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has learned something."""
    (tmp_path / "weights.json").write_text(json.dumps(THEN))
    (tmp_path / "checkpoints" / "step-00-0000000001").mkdir(parents=True)
    return tmp_path


def test_the_same_weights_go_on(folder):
    check_same(folder, WEIGHTS)
    check_same(folder, WEIGHTS | {"task.head": "c" * 64})  # an older record has none
    (folder / "weights.json").unlink()  # nor has an older run a record
    check_same(folder, dict.fromkeys(WEIGHTS, "d" * 64))


def test_other_weights_are_refused_by_name_once_something_was_learned(folder):
    now = dict.fromkeys(WEIGHTS, "d" * 64)
    with pytest.raises(UserError, match=r"other weights: what --backbone and --train\.init_from read has changed"):
        check_same(folder, now)
    (folder / "weights.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        check_same(folder, WEIGHTS)
    (folder / "weights.json").write_text(json.dumps(THEN))
    (folder / "checkpoints" / "step-00-0000000001").rename(folder / "checkpoints" / ".partial-step-00-0000000001")
    check_same(folder, now)


def test_on_another_machine_they_may_differ_by_rounding_and_that_is_said(folder):
    (folder / "weights.json").write_text(json.dumps(WEIGHTS | {MACHINE: "another"}))
    said = io.StringIO()
    weights_record.check_same(folder, WEIGHTS | {"trunk": "e" * 64}, console=Console(stream=said))
    assert (
        "The weights of trunk are not bit for bit those that the run began with on another machine (another)"
        in said.getvalue()
    )
    weights_record.check_same(folder, WEIGHTS, console=Console(stream=said))
    assert said.getvalue().count("bit for bit") == 1
