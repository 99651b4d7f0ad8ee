"""What is asked: texts of files and examples of data sources, each with a name of its own."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfpt.console import Console
from tfpt.data import DataSource, Index, Info
from tfpt.data.csv import Csv
from tfpt.errors import UserError
from tfpt.serving import asked

TEXT, PAIR, QUESTION = ["text"], ["text", "text_pair"], ["question", "context"]


def of_files(tmp_path, content, features, name):
    file = tmp_path / name
    file.write_text(content, "utf-8")
    return [(called.removeprefix(f"{tmp_path}/"), raw) for called, raw in asked.of_files([str(file)], features)]


@pytest.mark.parametrize(
    ("name", "content", "features", "wanted"),
    [
        ("a.txt", "Zoë, 👍\r\n\n b|||c\n", TEXT, {"a.txt:1": ("Zoë, 👍",), "a.txt:3": (" b|||c",)}),
        ("a.txt", "who? ||| Zoë was.\n", QUESTION, {"a.txt:1": ("who?", "Zoë was.")}),
        ("a.csv", 'text,other\n"a, b",1\n', TEXT, {"a.csv:2": ("a, b",)}),
        ("a.tsv", "sentence1\tsentence2\nx\ty\n", PAIR, {"a.tsv:2": ("x", "y")}),
        ("a.csv", "context,question\nc,q\n", QUESTION, {"a.csv:2": ("q", "c")}),
        ("a.jsonl", '{"question": "q", "context": "c"}\n', QUESTION, {"a.jsonl:1": ("q", "c")}),
        ("a.jsonl", '{"text": "t"}\n{"text": "u"}\n', TEXT, {"a.jsonl:1": ("t",), "a.jsonl:2": ("u",)}),
    ],
)  # fmt: skip
def test_texts_of_files(tmp_path, name, content, features, wanted):
    found = of_files(tmp_path, content, features, name)
    assert found == [
        (name, dict(zip(features, (text.encode() for text in texts), strict=True))) for name, texts in wanted.items()
    ]


def test_questions_of_squad_need_no_answers(tmp_path):
    asks = [{"id": "x1", "question": "who?"}, {"id": "x2", "question": "where?", "is_impossible": True}]
    value = {"data": [{"paragraphs": [{"context": "Zoë", "qas": asks}]}]}
    assert of_files(tmp_path, json.dumps(value), QUESTION, "dev.json") == [
        ("x1", {"question": b"who?", "context": "Zoë".encode()}),
        ("x2", {"question": b"where?", "context": "Zoë".encode()}),
    ]
    with pytest.raises(UserError, match=r"dev.json is not in the format of SQuAD"):
        of_files(tmp_path, '{"data": [{"paragraphs": 3}]}', QUESTION, "dev.json")


@pytest.mark.parametrize(
    ("name", "content", "features", "says"),
    [
        ("a.png", "", TEXT, "a.png: the model takes text; give .txt files"),
        ("a.txt", "one ||| two ||| three", PAIR, "a.txt:1 has 3 texts, and the model takes 2: text ||| text_pair"),
        ("a.csv", "sentence1,x\n1,2\n", QUESTION, "--data.text=question is not a column; columns are sentence1, x"),
        ("a.csv", "text\nalone\n", PAIR, "the model takes text and text_pair, and csv .*a.csv has text"),
    ],
)
def test_refused(tmp_path, name, content, features, says):
    with pytest.raises(UserError, match=says):
        of_files(tmp_path, content, features, name)


class Pictures(DataSource):
    def info(self):
        return Info(features={"image": "image", "label": "class"}, classes=("a",), size=40)

    def index(self):
        return Index(names=[f"p{k}" for k in range(40)], labels=None, splits=[""] * 40)

    def example(self, k):
        if int(k) == 33:
            raise tf.errors.NotFoundError(None, None, "gone")
        return {"image": tf.strings.as_string(k), "label": k}


def test_examples_of_a_source_are_answered_in_order_and_one_bad_one_costs_no_other():
    def predict(raw):
        if b"7" in raw["image"]:
            raise tf.errors.InvalidArgumentError(None, None, "a picture does not decode")
        return {"label": np.array(raw["image"])}

    servable = SimpleNamespace(predict=predict)
    examples = asked.of_source(Pictures(), ["image"])
    found = list(asked.answer_asked(servable, examples, total=40, console=Console(stream=io.StringIO())))
    assert [a.path for a in found] == [f"p{k}" for k in range(40)]
    assert [a.answer.get("label") for a in found] == [None if k in (7, 33) else str(k) for k in range(40)]
    assert (found[7].error, found[33].error) == (
        "it is not a picture that can be decoded",
        "it cannot be read (NotFoundError)",
    )


def test_two_texts_stand_for_any_two(tmp_path):
    (tmp_path / "a.csv").write_text("sentence1,sentence2,label\nx,y,1\n")
    source = Csv(str(tmp_path / "a.csv"))
    assert list(asked.of_source(source, QUESTION)) == [("a.csv:2", {"question": b"x", "context": b"y"})]


def test_texts_are_not_answered_as_pictures(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,1\n")
    with pytest.raises(UserError, match=r"--data: the model takes image, and csv .*a\.csv has text"):
        list(asked.of_source(Csv(str(tmp_path / "a.csv")), ["image"]))
