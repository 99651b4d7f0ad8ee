"""predictions.csv is written whole and read back."""

import csv
import os

import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.evaluation.predictions import read_predictions, write_choices, write_predictions, write_values

ODD_NAMES = [
    "plain.jpg",
    "a,b.jpg",
    'quote".jpg',
    "line\nbreak.jpg",
    "return\r.jpg",
    "Käfer #1 [1].jpg",
    "猫.png",
    os.fsdecode(b"latin-\xe9.jpg"),
    " space ",
    "",
]


def write(path, *, names=ODD_NAMES, classes=("cat", "dog", "größe, 10"), labels=None, seed=0):
    scores = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), size=len(names)).astype(np.float32)
    labels = np.arange(len(names)) % len(classes) if labels is None else np.asarray(labels)
    write_predictions(
        path,
        names=names,
        splits=["test"] * len(names),
        scores=scores,
        labels=labels,
        predicted=scores.argmax(axis=1),
        classes=classes,
    )
    return scores, labels


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "predictions.csv"
    classes = ("cat", "dog", "größe, 10")
    scores, labels = write(path, classes=classes)
    rows = read_predictions(path)
    assert [row.name for row in rows] == ODD_NAMES
    assert [row.label for row in rows] == [classes[k] for k in labels]
    assert [row.predicted for row in rows] == [classes[k] for k in scores.argmax(axis=1)]
    assert [row.correct for row in rows] == (scores.argmax(axis=1) == labels).tolist()
    assert {row.split for row in rows} == {"test"}
    for row, expected in zip(rows, scores, strict=True):
        assert list(row.scores) == list(classes)
        np.testing.assert_array_equal(np.float32(list(row.scores.values())), expected)
        assert np.float32(row.score) == expected.max()


def test_bytes_of_a_name_that_are_not_utf8_stay(tmp_path):
    write(tmp_path / "p.csv")
    assert b"latin-\xe9.jpg" in (tmp_path / "p.csv").read_bytes()


def test_header(tmp_path):
    write(tmp_path / "p.csv", names=["x"], classes=("a", "b"))
    with open(tmp_path / "p.csv", newline="") as file:
        header = next(csv.reader(file))
    assert header == ["name", "split", "label", "predicted", "score", "correct", "score:a", "score:b"]


def test_unknown_labels_are_empty(tmp_path):
    write(tmp_path / "p.csv", names=["x", "y"], classes=("a", "b"), labels=[-1, 0])
    with open(tmp_path / "p.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["label"], first["correct"]) == ("", "")
    known = [(row.label, row.correct is None) for row in read_predictions(tmp_path / "p.csv")]
    assert known == [(None, True), ("a", False)]


def test_fifty_classes_are_columns_and_fifty_one_are_the_top_five(tmp_path):
    write(tmp_path / "fifty.csv", names=["x"], classes=[f"c{k}" for k in range(50)])
    assert len(read_predictions(tmp_path / "fifty.csv")[0].scores) == 50
    classes = [f"c{k}" for k in range(51)]
    scores, _ = write(tmp_path / "more.csv", names=["x", "y"], classes=classes)
    for row, expected in zip(read_predictions(tmp_path / "more.csv"), scores, strict=True):
        best = np.argsort(-expected)[:5]
        assert list(row.scores) == [classes[k] for k in best]
        assert row.predicted == classes[best[0]]
        np.testing.assert_array_equal(np.float32(list(row.scores.values())), expected[best])


def test_equal_scores_go_to_the_first_class_whatever_their_number(tmp_path):
    for count in (3, 60):
        classes = [f"c{k}" for k in range(count)]
        scores = np.full((1, count), 1 / count)
        write_predictions(
            tmp_path / "p.csv",
            names=["x"],
            splits=["test"],
            scores=scores,
            labels=np.array([0]),
            predicted=np.array([0]),
            classes=classes,
        )
        assert read_predictions(tmp_path / "p.csv")[0].predicted == "c0"


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path):
    write(tmp_path / "p.csv", names=["old"])
    with pytest.raises(IndexError):
        write(tmp_path / "p.csv", names=["new"], labels=[99])
    assert [row.name for row in read_predictions(tmp_path / "p.csv")] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"p\.csv cannot be written: No such file"):
        write(tmp_path / "missing" / "p.csv")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"p\.csv cannot be written: Not a directory"):
        write(tmp_path / "file" / "p.csv")


def test_another_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="first line must begin"):
        read_predictions(tmp_path / "t.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path / "none.csv")


@pytest.mark.parametrize("line", ["x,test,a,a,0.5", "x,test,a,a,high,1,0.5,0.5", "x,test,a,a,0.5,yes,0.5,0.5"])
def test_a_broken_line_is_named(tmp_path, line):
    write(tmp_path / "p.csv", names=["x"], classes=("a", "b"))
    with open(tmp_path / "p.csv", "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 3"):
        read_predictions(tmp_path / "p.csv")


def test_lengths_that_differ_are_refused(tmp_path):
    with pytest.raises(ValueError, match="do not fit"):
        write_predictions(
            tmp_path / "p.csv",
            names=["x"],
            splits=["test"],
            scores=np.ones((2, 2)),
            labels=np.zeros(2, int),
            predicted=np.zeros(2, int),
            classes=["a", "b"],
        )


def test_the_answer_need_not_have_the_highest_score(tmp_path):
    """A threshold of one's own decides otherwise."""
    write_predictions(
        tmp_path / "p.csv",
        names=["x"],
        splits=["test"],
        scores=np.array([[0.75, 0.25]]),
        labels=np.array([1]),
        predicted=np.array([1]),
        classes=["a", "b"],
    )
    (row,) = read_predictions(tmp_path / "p.csv")
    assert (row.predicted, row.score, row.correct) == ("b", 0.25, True)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_several_classes_an_example(tmp_path):
    scores = np.array([[0.75, 0.5, 0.25], [0.125, 0.25, 0.0]])
    labels = np.array([[1, 0, 1], [0, 0, 0]], bool)
    write_choices(
        tmp_path / "p.csv",
        names=["x", "y"],
        splits=["validation", "test"],
        scores=scores,
        labels=labels,
        chosen=scores >= 0.5,
        classes=["a", "b", "c"],
    )
    assert read(tmp_path / "p.csv") == [
        ["name", "split", "labels", "predicted", "correct", "score:a", "score:b", "score:c"],
        ["x", "validation", "a|c", "a|b", "0", "0.75", "0.5", "0.25"],
        ["y", "test", "", "", "1", "0.125", "0.25", "0.0"],
    ]


def test_numbers(tmp_path):
    values, targets = np.array([[1.5], [2.0]]), np.array([[1.0], [2.5]])
    write_values(tmp_path / "p.csv", names=["x", "y"], splits=["test"] * 2, values=values, targets=targets)
    assert read(tmp_path / "p.csv") == [
        ["name", "split", "target", "predicted", "error"],
        ["x", "test", "1.0", "1.5", "0.5"],
        ["y", "test", "2.5", "2.0", "-0.5"],
    ]
    write_values(
        tmp_path / "p.csv",
        names=["x"],
        splits=["test"],
        values=np.array([[1.0, 2.0]]),
        targets=np.array([[0.0, 4.0]]),
    )
    assert read(tmp_path / "p.csv") == [
        ["name", "split", "target1", "predicted1", "error1", "target2", "predicted2", "error2"],
        ["x", "test", "0.0", "1.0", "1.0", "4.0", "2.0", "-2.0"],
    ]
    with pytest.raises(ValueError, match="do not fit"):
        write_values(tmp_path / "p.csv", names=["x"], splits=["test"], values=values, targets=targets)
