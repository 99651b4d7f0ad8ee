"""weights.json, and with which weights a run may go on."""

import json

import pytest

from tfpt.errors import UserError
from tfpt.training.weights_record import check_same

THEN = {"trunk": "a" * 64, "train.init_from": "b" * 64}


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has learned something."""
    (tmp_path / "weights.json").write_text(json.dumps(THEN))
    (tmp_path / "checkpoints" / "step-00-0000000001").mkdir(parents=True)
    return tmp_path


def test_the_same_weights_go_on(folder):
    check_same(folder, THEN)
    check_same(folder, THEN | {"task.head": "c" * 64})  # an older record has none


def test_other_weights_are_refused_by_name_once_something_was_learned(folder):
    now = dict.fromkeys(THEN, "d" * 64)
    with pytest.raises(UserError, match=r"began with other weights \(trunk, train\.init_from\)"):
        check_same(folder, now)
    (folder / "weights.json").write_text("{")  # what is damaged cannot be compared
    check_same(folder, now)
    (folder / "weights.json").write_text(json.dumps(THEN))
    (folder / "checkpoints" / "step-00-0000000001").rename(folder / "checkpoints" / ".partial-step-00-0000000001")
    check_same(folder, now)
