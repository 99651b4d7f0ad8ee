"""Answers to files: one that cannot be read never costs another its answer."""

import io
import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.serving.answers import FileAnswer, answer_files, answer_text, highest, in_words, write_answers


def servable(overtaken):
    """A servable that answers b"good"; `overtaken` is what a batch with anything else in it raises."""

    def predict(raw):
        values = raw["image"]
        if any(value != b"good" for value in values):
            error = tf.errors.InvalidArgumentError if len(values) == 1 else overtaken
            raise error(None, None, "a picture does not decode")
        return {"label": np.array([b"cat"] * len(values))}

    image = SimpleNamespace(raw_features=("image",))
    return SimpleNamespace(preprocessors={"image": image}, predict=predict)


@pytest.mark.parametrize("overtaken", [tf.errors.InvalidArgumentError, tf.errors.CancelledError])
def test_files_that_do_not_decode_cost_no_neighbour_its_answer(tmp_path, overtaken):
    contents = {"0.jpg": b"good", "1.jpg": b"", "2.jpg": b"text", "3.jpg": b"good"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = [str(tmp_path / name) for name in (*contents, "gone.jpg")]
    found = list(answer_files(servable(overtaken), files, console=Console(stream=io.StringIO())))
    assert [a.path for a in found] == files
    assert [a.answer.get("label") for a in found] == ["cat", None, None, "cat", None]
    assert [a.error for a in found] == [
        "",
        *["it is not a picture that can be decoded"] * 2,
        "",
        "No such file or directory",
    ]


def texts(*features, **answer):
    """A servable of texts that gives one answer and keeps what it was asked."""
    asked = {}

    def predict(raw):
        asked.update(raw)
        return {name: np.array([value]) for name, value in answer.items()}

    preprocessors = {"trunk": SimpleNamespace(raw_features=features)}
    return SimpleNamespace(preprocessors=preprocessors, predict=predict, asked=asked)


def test_two_texts_have_a_separator_between_them():
    model = texts("question", "context", answer=b"K\xc3\xb6ln", score=0.75)
    found = answer_text(model, "where? ||| In K\u00f6ln.\n")
    assert model.asked == {"question": [b"where?"], "context": ["In K\u00f6ln.".encode()]}
    assert in_words(found, 3) == ["K\u00f6ln 0.750"]
    assert in_words(answer_text(texts("question", "context", answer=b"", score=0.5), "a|||b"), 3) == [
        "(no answer) 0.500"
    ]
    for text in ("where?", "a ||| b ||| c"):
        with pytest.raises(UserError, match=r'takes question and context; write --text="question \|\|\| context"'):
            answer_text(model, text)
    with pytest.raises(UserError, match="takes image; write files of pictures"):
        answer_text(texts("image"), "a cat")


def test_spans_are_shown_with_their_words_all_of_them():
    answer = {"label": ["PER", "LOC", ""], "start": [0, 8, 0], "end": [3, 12, 0], "score": [0.75, 0.5, 0.0]}
    text = "Zo\u00eb ||| K\u00f6ln"
    found = answer_text(texts("text", **answer), text)
    assert found == FileAnswer(path=text, answer=answer)
    assert highest(answer, 1, text=text) == [("PER Zo\u00eb", 0.75), ("LOC K\u00f6ln", 0.5)]
    assert in_words(found, 1) == ["PER Zo\u00eb 0.750", "LOC K\u00f6ln 0.500"]
    nothing = FileAnswer(path="x", answer={name: [] for name in answer})
    assert in_words(nothing, 3) == ["nothing found"]
    written = io.StringIO()
    write_answers([found, nothing], written, form="csv", top=1)
    assert written.getvalue().splitlines() == [
        "path,label1,score1,label2,score2,error",
        f"{text},PER Zo\u00eb,0.75,LOC K\u00f6ln,0.5,",
        "x,,,,,",
    ]


def test_predicted_numbers_are_shown():
    assert highest({"values": [2.5]}, 3) == [("value", 2.5)]
    assert in_words(FileAnswer(path="x.png", answer={"values": [-1.0, 250.5]}), 3) == [
        "value1 -1.000",
        "value2 250.500",
    ]


CHOICES = {"classes": ["a", "b", "c", "d"], "scores": [0.2, 0.9, 0.45, 0.4], "chosen": [False, True, False, True]}


def test_of_several_classes_the_chosen_ones_come_first_and_are_marked():
    found = FileAnswer(path="x.png", answer=CHOICES)
    assert in_words(found, 3) == ["[x] b 0.900", "[x] d 0.400", "[ ] c 0.450"]
    assert in_words(found, 1) == ["[x] b 0.900", "[x] d 0.400"]
    stream = io.StringIO()
    write_answers([found, FileAnswer(path="y.png", answer={}, error="broken")], stream, form="csv", top=1)
    assert stream.getvalue().splitlines() == [
        "path,chosen,label1,score1,label2,score2,error", "x.png,b|d,b,0.9,d,0.4,", "y.png,,,,,,broken",
    ]  # fmt: skip


def test_spans_of_a_text_of_a_file_are_those_of_its_text():
    answer = {"start": [0], "end": [4], "label": ["PER"], "score": [0.5]}
    assert in_words(FileAnswer(path="a.txt:1", answer=answer, text="Anna left"), 3) == ["PER Anna 0.500"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_answers_are_written_as_they_come_and_not_gathered(form):
    """Of 3,000 answers at most a few are alive at a time; the longest row, which is the last, still fits."""
    alive = weakref.WeakSet()
    most = 0

    class Answer(FileAnswer):
        __hash__ = object.__hash__

    def made():
        nonlocal most
        for k in range(3000):
            labels = ["PER"] * (4 if k == 2999 else 1)
            spans = {
                "label": labels,
                "start": [0] * len(labels),
                "end": [1] * len(labels),
                "score": [0.5] * len(labels),
            }
            answer = Answer(path=f"{k}", answer=spans, error="broken" if k == 7 else "", text="Z\u00fcrich")
            alive.add(answer)
            most = max(most, len(alive))
            yield answer

    stream = io.StringIO()
    assert write_answers(made(), stream, form=form, top=1) == (3000, 1)
    assert most <= 3
    lines = stream.getvalue().splitlines()
    if form == "csv":
        assert lines[0] == "path,label1,score1,label2,score2,label3,score3,label4,score4,error"
        assert lines[1] == "0,PER Z,0.5,,,,,,,"
        assert lines[8].endswith(",broken") and lines[-1].count("PER") == 4 and len(lines) == 3001
    else:
        assert json.loads(lines[7]) == {
            "path": "7",
            "label": ["PER"],
            "start": [0],
            "end": [1],
            "score": [0.5],
            "error": "broken",
        }
        assert len(lines) == 3000


def test_names_that_are_no_utf_8_keep_their_bytes_in_csv(tmp_path):
    found = FileAnswer(path="a\udcff.png", answer={"classes": ["x"], "scores": [1.0]})
    with open(tmp_path / "a.csv", "w", encoding="utf-8", errors="surrogateescape") as file:
        write_answers([found], file, form="csv", top=1)
    assert b"\na\xff.png,x,1," in (tmp_path / "a.csv").read_bytes()
