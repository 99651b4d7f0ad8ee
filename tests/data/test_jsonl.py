"""JSON lines and lists: texts and labels of any JSON type, tokens with tags, and what is refused."""

import json

import pytest
import tensorflow as tf

from tfpt.data.csv import Csv
from tfpt.data.jsonl import Jsonl
from tfpt.errors import UserError


def source(folder, files, **config):
    for name, rows in files.items():
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(text, "utf-8")
    return Jsonl(str(folder / next(iter(files)) if len(files) == 1 else folder), Jsonl.Config(**config))


def read(source):
    return list(tf.data.Dataset.range(source.info().size).map(source.example).as_numpy_iterator())


def test_lines(tmp_path):
    text = '\ufeff{"text": "a \\u00fc \\ud83d", "label": true}\n\n{"label": false, "text": "two\\nlines", "x": 1}\r\n'
    data = source(tmp_path, {"a.jsonl": text})
    assert data.info().classes == ("false", "true") and data.index().names == ["a.jsonl:1", "a.jsonl:3"]
    assert read(data) == [{"text": "a ü ?".encode(), "label": 1}, {"text": b"two\nlines", "label": 0}]


def test_a_list(tmp_path):
    rows = [{"review": "a", "stars": 10}, {"review": "b", "stars": 9}]
    data = source(tmp_path, {"a.json": "\n" + json.dumps(rows, indent=1)}, label="stars")
    assert data.info().classes == ("9", "10") and data.index().names == ["a.json:1", "a.json:2"]
    assert source(tmp_path, {"b.json": rows}, label="stars").index().labels.tolist() == [1, 0]  # lines after all


def test_the_content_counts_not_the_format(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\ngrün,x\nb,y\n", "utf-8")
    data = source(tmp_path, {"a.jsonl": [{"text": "b", "label": 1}, {"text": "grün", "label": 0}]})
    assert data.digests() == Csv(str(tmp_path / "a.csv")).digests()[::-1]


def test_lists_of_labels(tmp_path):
    rows = [{"text": "a", "label": ["y", "x|z"]}, {"text": "b", "label": []}, {"text": "c", "label": ["y"]}]
    data = source(tmp_path, {"a.jsonl": rows})
    assert data.info().classes == ("x|z", "y") and data.info().features["labels"] == "classes"
    assert [row["labels"].tolist() for row in read(data)] == [[1, 1], [0, 0], [0, 1]]
    rows = [{"text": "a", "label": ["y", None, None]}, {"text": "b", "label": ["x"]}]
    assert [row["labels"].tolist() for row in read(source(tmp_path, {"a.jsonl": rows}))] == [[0, 1], [1, 0]]
    rows = [{"text": "a", "label": [1, 2.5]}, {"text": "b", "label": [3, 4]}]
    numbers = source(tmp_path, {"a.jsonl": rows}, label_type="number")
    assert [row["target"].tolist() for row in read(numbers)] == [[1, 2.5], [3, 4]]
    rows[1]["label"] = [3]
    with pytest.raises(UserError, match=r"a\.jsonl:2: in the column label, 1 numbers, where others have 2"):
        source(tmp_path, {"a.jsonl": rows}, label_type="number").info()


def test_lists_of_zeros_and_ones_are_a_class_a_place(tmp_path):
    def of(*labels, **config):
        rows = [{"text": f"t{k}", "label": label} for k, label in enumerate(labels)]
        data = source(tmp_path, {"a.jsonl": rows}, **config)
        found = [row.get("labels", row.get("label")).tolist() for row in read(data)]
        return data.info().classes, found, data.info().notes[-1]

    assert of([0, 1, 0], [1, 1, 0])[:2] == (("0", "1", "2"), [[0, 1, 0], [1, 1, 0]])
    assert of([0.0, 1.0], [1.0, 1.0])[:2] == (("0", "1"), [[0, 1], [1, 1]])
    classes, found, note = of([0, 1, 0], [1, 0, 0], [0, 0, 1])
    assert (classes, found) == (("0", "1", "2"), [1, 0, 2])
    assert "lists of 0 and 1, one for each of 3 classes" in note and "one class" in note
    assert of([0, 1], [1, 0], label_type="multi")[1] == [[0, 1], [1, 0]]
    assert of([0], [0, 1], [1])[1] == [[1, 0], [1, 1], [0, 1]]  # numbers of the classes, because lengths differ
    assert of([0], [1])[1] == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match=r"a\.jsonl:2: in the column label, the list 0, 1, 0 has a name twice"):
        of([0, 1], [0, 1, 0])
    rows = [{"text": "a", "label": [1, 2.5]}, {"text": "b", "label": [3, 4]}]
    assert source(tmp_path, {"a.jsonl": rows}).info().features["target"] == "number"


def test_whole_numbers_are_one_class_however_they_are_written(tmp_path):
    rows = [{"text": "a", "label": 1.0}, {"text": "b", "label": 0}, {"text": "c", "label": 1}]
    assert source(tmp_path, {"a.jsonl": rows}).index().labels.tolist() == [1, 0, 1]
    (tmp_path / "a.csv").write_text("text,label\na,1.0\nb,0\nc,1\nd,2.0\n")
    assert Csv(str(tmp_path / "a.csv")).info().classes == ("0", "1", "2.0")


def test_rows_without_a_text_are_named(tmp_path):
    rows = [{"text": "a", "label": 1}, *({"text": text, "label": 0} for text in (None, float("nan"), " "))]
    data = source(tmp_path, {"a.jsonl": rows})
    assert [row["text"] for row in read(data)] == [b"a", b"", b"", b" "]
    assert "3 rows have no text: a.jsonl:2, a.jsonl:3, a.jsonl:4." in data.info().notes
    assert not any("no text" in note for note in source(tmp_path, {"a.jsonl": rows[:1]}).info().notes)


def test_splits_and_missing_labels(tmp_path):
    files = {
        "train.jsonl": [{"text": "a", "label": 0}, {"text": "b", "label": 1}],
        "test.jsonl": [{"text": "c", "label": None}],
    }
    data = source(tmp_path, files)
    assert data.index().splits == ["train", "train"]
    assert "test.jsonl has no labels and is left out." in data.info().notes


def test_tokens_and_tags(tmp_path):
    rows = [
        {"tokens": ["New York", "is"], "ner_tags": ["I-LOC", "O"]},
        {"tokens": [], "ner_tags": []},
        {"tokens": ["x"], "ner_tags": ["O"]},
    ]
    data = source(tmp_path, {"a.jsonl": rows}, tokens="tokens", tags="ner_tags")
    assert data.info().features == {"text": "text", "tags": "tags"} and data.info().classes == ("O", "B-LOC")
    assert [(row["text"].decode(), row["tags"].tolist()) for row in read(data)] == [
        ("New\u00a0York is", [1, 0]),
        ("x", [0]),
    ]
    assert data.index().names == ["a.jsonl:1", "a.jsonl:3"] and len(data.digests()) == 2
    numbers = source(tmp_path, {"b.jsonl": [{"t": ["x", "y"], "n": [10, 9]}]}, tokens="t", tags="n")
    assert numbers.info().classes == ("9", "10")
    assert (
        "each is one by itself; --data.tag_names=O,B-PER,I-PER says what 0, 1, 2 stand for" in numbers.info().notes[-1]
    )
    rows = {"b.jsonl": [{"t": ["x", "y", "z"], "n": [1, 2, 0]}]}
    named = source(tmp_path, rows, tokens="t", tags="n", tag_names="O,B-PER,I-PER")
    assert [named.info().classes[tag] for tag in read(named)[0]["tags"]] == ["B-PER", "I-PER", "O"]
    assert not named.info().notes
    with pytest.raises(
        UserError, match=r"b.jsonl:1 has the tag 2, and --data.tag_names names 2, by their numbers from 0"
    ):
        source(tmp_path, rows, tokens="t", tags="n", tag_names=("O", "B-PER")).info()
    with pytest.raises(
        UserError, match=r"which column is the text\?.*write --data.tokens=tokens and --data.tags=ner_tags\."
    ):
        source(tmp_path, {"c.jsonl": [{"id": 1, "tokens": ["a"], "ner_tags": [0]}]}).info()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"t": ["x"], "n": []}, "a.jsonl:1 has 1 tokens and 0 tags"),
        ({"t": [""], "n": ["O"]}, "a.jsonl:1 has an empty token"),
        ({"t": ["x"]}, "--data.tags=n is not a column; columns are t"),
        ({"t": {"x": 1}, "n": ["O"]}, "--data.tokens=t is not a list of texts"),
    ],
)
def test_tokens_that_are_refused(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        source(tmp_path, {"a.jsonl": [row]}, tokens="t", tags="n").info()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.jsonl is empty"),
        ('{"text": "a", "label": 1}\n{"text": \n', "a.jsonl:2 is not JSON: Expecting value in column 9"),
        ("[" * 100_000, "a.jsonl:1 is not JSON"),
        ('"text"\n', "a.jsonl:1 is not a JSON object"),
        ('{"text": "a", "label": 1}\n{"text": "b"}\n', "a.jsonl:2 has no key 'label'"),
        ('{"text": ["a"], "label": 1}\n', "a.jsonl:1: a cell is a list, not a text"),
        ('{"text": "a", "label": {"b": 1}}\n', "a.jsonl:1: a cell is a dict, not a text, a number"),
    ],
)
def test_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        source(tmp_path, {"a.jsonl": text}).info()
    with pytest.raises(ValueError, match=r"needs --data\.tags"):
        Jsonl.Config(tokens="t")
