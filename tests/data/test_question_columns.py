"""Questions, contexts and answers in the columns of a table."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tfpt.data._questions import SEPARATOR
from tfpt.data.csv import Csv
from tfpt.data.jsonl import Jsonl
from tfpt.data.parquet import Parquet
from tfpt.errors import UserError

CONTEXT = "Zoë lives in Köln. Köln is on the Rhine."
ROWS = [
    {"question": "City?", "context": CONTEXT, "answers": {"text": ["Köln", "in Köln"], "answer_start": [13, 10]}},
    {"question": "River?", "context": CONTEXT, "answers": {"text": ["Rhine"], "answer_start": [34]}},
    {"question": "Mountain?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}},
]
WANTED = [("City?", "Köln", 13, f"Köln{SEPARATOR}in Köln"), ("River?", "Rhine", 34, "Rhine"), ("Mountain?", "", -1, "")]


def read(source):
    rows = tf.data.Dataset.range(source.info().size).map(source.example).as_numpy_iterator()
    return [
        (row["question"].decode(), row["answer_text"].decode(), int(row["answer_start"]), row["answers"].decode())
        for row in rows
    ]


def jsonl(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return str(path)


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def test_as_the_datasets_library_writes_them(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    cells = [[row["question"], row["context"], json.dumps(row["answers"])] for row in ROWS]
    sources = [
        Jsonl(jsonl(tmp_path / "train.jsonl", ROWS)),
        Parquet(str(tmp_path / "a.parquet")),
        Csv(table(tmp_path / "a.csv", [["question", "context", "answers"], *cells])),
    ]
    for source in sources:
        assert read(source) == WANTED
        assert "columns question, context and answers" in source.info().notes[-1]
        assert len(set(source.digests())) == 3
    assert sources[0].index().names == ["train.jsonl:1", "train.jsonl:2", "train.jsonl:3"]


def test_named_columns_and_answers_without_places(tmp_path):
    rows = [
        ["q", "passage", "a"],
        ["City?", CONTEXT, "Köln"],
        ["Who?", CONTEXT, '["Zoë", "Zoë lives"]'],
        ["Odd?", CONTEXT + " [sic]", "[sic]"],
        ["None?", CONTEXT, ""],
        ["Lost?", CONTEXT, "Bonn"],
    ]
    config = Csv.Config(question="q", context="passage", answers="a")
    source = Csv(table(tmp_path / "a.csv", rows), config)
    assert read(source) == [
        ("City?", "Köln", 13, "Köln"),
        ("Who?", "Zoë", 0, f"Zoë{SEPARATOR}Zoë lives"),
        ("Odd?", "[sic]", 41, "[sic]"),
        ("None?", "", -1, ""),
    ]
    (note,) = source.info().notes
    assert "1 questions are left out" in note and "a.csv:6" in note


def test_a_table_of_labelled_texts_is_none(tmp_path):
    path = table(tmp_path / "a.csv", [["question", "answers", "label"], ["x", "y", "good"], ["z", "y", "bad"]])
    assert Csv(path, Csv.Config(text="question")).info().classes == ("bad", "good")
    whole = table(tmp_path / "b.csv", [["question", "context", "answers"], ["x", "y", "good"], ["z", "y", "bad"]])
    config = Csv.Config(context="none", text="question", label="answers")
    assert Csv(whole, config).info().classes == ("bad", "good")


def test_mistakes_are_one_sentence(tmp_path):
    def message(rows, **config):
        with pytest.raises(UserError) as raised:
            Jsonl(jsonl(tmp_path / "a.jsonl", rows), Jsonl.Config(**config)).info()
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "--data.context=passage is not a column" in message(ROWS, context="passage")
    assert "a.jsonl:1: --data.question=question is not a text" in message([{**ROWS[0], "question": 3}])
    assert "a text, a list of texts or" in message([{**ROWS[0], "answers": {"text": ["a"]}}])
    assert "no question whose answer is in its context" in message([{**ROWS[0], "answers": "Bonn"}])
    with pytest.raises(ValueError, match=r"context: none"):
        Jsonl.Config(context="none", question="q")
    with pytest.raises(ValueError, match=r"text: a is given, and --data\.context too"):
        Jsonl.Config(text="a", context="c")
    Jsonl.Config(text="a", context="none")
