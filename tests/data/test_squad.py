"""SQuAD JSON: answers by character, unanswerable questions, wrong starts, and what is refused."""

import json

import pytest
import tensorflow as tf

from tfpt.data._questions import SEPARATOR
from tfpt.data.squad import Squad
from tfpt.errors import UserError

CONTEXT = "Zoë 😀 lives in Köln. Köln is on the Rhine."


def question(name, *answers, **more):
    return {"id": name, "question": f"{name}?", "answers": [{"text": t, "answer_start": s} for t, s in answers], **more}


def source(folder, files):
    for name, paragraphs in files.items():
        value = {"data": [{"paragraphs": [{"context": c, "qas": q} for c, q in paragraphs]}]}
        (folder / name).write_text(json.dumps(value), "utf-8")
    return Squad(str(folder / next(iter(files)) if len(files) == 1 else folder))


def read(source):
    rows = tf.data.Dataset.range(source.info().size).map(source.example).as_numpy_iterator()
    return [{name: v.decode() if isinstance(v, bytes) else int(v) for name, v in row.items()} for row in rows]


def test_questions(tmp_path):
    first = [question("city", ("Köln", 15), ("lives in Köln", 6)), question("river", ("the Rhine", 32))]
    second = [question("why", is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 0}])]
    data = source(tmp_path, {"a.json": [(CONTEXT, first), ("Other.", second)]})
    city, river, why = read(data)
    assert city == {
        "question": "city?",
        "context": CONTEXT,
        "answer_text": "Köln",
        "answer_start": 15,
        "answers": f"Köln{SEPARATOR}lives in Köln",
    }
    assert river["context"][river["answer_start"] :].startswith(river["answer_text"])
    assert (why["context"], why["answer_text"], why["answer_start"], why["answers"]) == ("Other.", "", -1, "")
    assert data.index().names == ["city", "river", "why"] and data.info().notes == ()
    assert len(set(data.digests())) == 3
    one, same, other = data.index().together
    assert one == same != other
    assert data.example(0)["answer_start"].dtype == tf.int64


def test_wrong_starts(tmp_path):
    far = "x" * 100
    asked = [
        question("near", ("Rhine", 30)),
        question("two", ("Köln", 18)),
        question("gone", ("Bonn", 3)),
        question("far", ("end", 0)),
        question("second", ("Bonn", 3), ("Zoë", 0)),
        question("negative", ("Zoë", -3)),
    ]
    data = source(tmp_path, {"a.json": [(CONTEXT + far + "end", asked)]})
    rows = {row["question"]: row for row in read(data)}
    assert list(rows) == ["near?", "second?", "negative?"]
    assert rows["near?"]["answer_start"] == 36 and rows["negative?"]["answer_start"] == 0
    assert (rows["second?"]["answer_text"], rows["second?"]["answers"]) == ("Zoë", "Zoë")
    repaired, lost = data.info().notes
    assert repaired.startswith("2 answers did not stand") and lost.startswith("3 questions are left out")
    assert "two, gone, far" in lost


def test_folder(tmp_path):
    unanswered = {"id": "q", "question": "q?"}
    files = {
        "train-v2.0.json": [(CONTEXT, [question("a", ("Köln", 15)), question("a", ("Zoë", 0))])],
        "dev-v2.0.json": [(CONTEXT, [question("b")])],
        "test.json": [(CONTEXT, [unanswered])],
    }
    data = source(tmp_path, files)
    assert data.index().splits == ["train", "train", "validation"] and data.index().names == ["a", "a#2", "b"]
    assert data.info().notes == ("test.json has no answers and is left out.",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.json is empty"),
        ('{\n"data": [}', "a.json:2 is not JSON"),
        ('{"rows": []}', "is not in the format of SQuAD .* there is no 'data'"),
        ('{"data": []}', "holds no questions"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [{"question": 1}]}]}]}', "is not a text"),
        (
            '{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": "i", "question": "q", "answers": ["x"]}]}]}]}',
            "an answer of i has no text",
        ),
    ],
)
def test_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        Squad(str(tmp_path / "a.json")).info()
