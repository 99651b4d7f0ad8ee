"""data.json, and with which data a run may go on."""

import dataclasses

import numpy as np
import pytest

from tfpt.data import Index, Info
from tfpt.errors import UserError
from tfpt.reproduction import data_differences
from tfpt.training.data_record import check_same, describe
from tfpt.training.run_folder import RunFolder
from tfpt.training.splits import Splits

INFO = Info(features={"image": "image"}, classes=("ant", "bee"), size=6, origin="a folder")


def record(
    *, labels=(0, 1, 0, 1, 0, 1), contents=b"abcdef", names=None, train=(0, 1, 2), held=None, truth=None, info=INFO
):
    labels = None if labels is None else np.array(labels)
    index = Index(names=names or [str(k) for k in range(6)], labels=labels, splits=[""] * 6, held=held, truth=truth)
    digests = [bytes([content]) for content in contents]
    splits = Splits(train=np.array(train), validation=np.array([3]), test=np.array([4, 5]), notes=())
    return describe("folder:a", info, index, digests, splits, ["a note"])


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has learned something."""
    RunFolder(tmp_path).write_json("data.json", record())
    (tmp_path / "checkpoints" / "step-00-0000000001").mkdir(parents=True)
    return tmp_path


def test_it_counts_examples_and_classes():
    found = record()
    assert found["examples"] == {"train": 3, "validation": 1, "test": 2}
    assert found["classes"] == {
        "train": {"ant": 2, "bee": 1}, "validation": {"ant": 0, "bee": 1}, "test": {"ant": 1, "bee": 1},
    }  # fmt: skip
    assert (found["data"], found["origin"], found["notes"]) == ("folder:a", "a folder", ["a note"])


def test_the_same_data_goes_on_whatever_the_files_are_called(folder):
    check_same(folder, record(names=list("uvwxyz")))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"contents": b"abcdeX"}, "the same number of others"),
        ({"labels": (0, 1, 1, 1, 0, 1)}, "the same number of others"),
        ({"train": (0, 2, 1)}, "the same number of others"),  # the plan goes by places
        ({"train": (0, 1)}, "3 train, 1 validation, 2 test then, 2 train, 1 validation, 2 test now"),
    ],
)
def test_other_data_is_refused_once_something_was_learned(folder, changes, says):
    with pytest.raises(UserError, match=rf"--data=folder:a is not what the run in .* was trained on \({says}\)"):
        check_same(folder, record(**changes))
    (folder / "checkpoints" / "step-00-0000000001").rename(folder / "checkpoints" / ".partial-step-00-0000000001")
    check_same(folder, record(**changes))


HELD = np.array([[True, False, True]] * 6)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"info": dataclasses.replace(INFO, classes=("ant", "bat"))}),
        ({"labels": None, "held": HELD}, {"labels": None, "held": ~HELD}),
        ({"labels": None, "truth": [b"a"] * 6}, {"labels": None, "truth": [b"a"] * 5 + [b"b"]}),
    ],
)
def test_other_labels_of_the_same_examples_are_refused(folder, before, now):
    then = record(**before)
    RunFolder(folder).write_json("data.json", then)
    check_same(folder, record(**before))
    with pytest.raises(UserError, match=r"\(the same examples, with other labels, names of classes, or ex"):
        check_same(folder, record(**now))
    (said,) = data_differences(then, record(**now))
    assert said == "data: the same examples, with other labels, names of classes, or examples that are left out"
    del then["labels_sha256"]  # an older record has none
    RunFolder(folder).write_json("data.json", then)
    check_same(folder, record(**now))
    assert data_differences(then, record(**now)) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": {}}'])
def test_a_record_that_is_damaged_is_said(folder, content):
    (folder / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data.json is damaged"):
        check_same(folder, record())
