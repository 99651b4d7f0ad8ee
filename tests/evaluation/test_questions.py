"""Questions: the accepted answers beside what was found, in predictions.csv and in the report."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tfpt.data import DataSource, Index, Info
from tfpt.data._questions import SEPARATOR
from tfpt.evaluation.results import write_results
from tfpt.evaluation.scoring import Scores

CONTEXT = "Zoë 👍 lives in <script>Köln</script>. " + "Nothing else is known. " * 60 + "Köln is on the Rhine."
ROWS = (
    ("where?", "Köln", CONTEXT.index("Köln"), f"Köln{SEPARATOR}in <script>Köln"),
    ("why?", "", -1, ""),
    ("which river?", "the Rhine", CONTEXT.index("the Rhine"), "the Rhine"),
    ("who?", "Zoë", 0, "Zoë"),
)


class Questions(DataSource):
    def info(self):
        names = ("question", "context", "answer_text", "answer_start", "answers")
        return Info(features=dict.fromkeys(names, "text"), size=len(ROWS))

    def index(self):
        return Index(names=[f"q{k}" for k in range(len(ROWS))], labels=None, splits=["test"] * len(ROWS))

    def example(self, k):
        question, text, start, answers = (tf.constant(column)[k] for column in zip(*ROWS, strict=True))
        return {
            "question": question, "context": tf.constant(CONTEXT), "answer_text": text,
            "answer_start": tf.cast(start, tf.int64), "answers": answers,
        }  # fmt: skip


def scores():
    starts = [CONTEXT.index("Köln is"), 0, CONTEXT.index("on the Rhine"), 4]
    answers = ["Köln", "", "on the Rhine", "👍"]
    examples = np.arange(4)
    kept = {
        "answer": np.array([text.encode() for text in answers], object), "start": np.array(starts, np.int32),
        "end": np.array([s + len(a) for s, a in zip(starts, answers, strict=True)], np.int32),
        "score": np.array([1.0, 0.5, 0.25, 0.75], np.float32),
    }  # fmt: skip
    return Scores(examples=examples, statistics={}, kept=kept, chosen=examples[:0], answers={}, batch_size=4)


@pytest.fixture
def folder(tmp_path):
    source = Questions()
    metrics = {
        "primary": "f1", "test": {"f1": {"value": 0.9, "low": 0.8, "high": 1.0}}, "answerable": 3, "unanswerable": 1,
        "threshold": 0.25, "classes": ["an answer", "no answer"], "confusion": [[3, 0], [0, 1]],
    }  # fmt: skip
    write_results(
        tmp_path, title="t", summary={}, metrics=metrics, scored={"test": scores()}, index=source.index(),
        source=source, state={}, report_examples=5,
    )  # fmt: skip
    return tmp_path


def test_predictions_have_a_line_for_each_question(folder):
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["name"], r["answers"], r["predicted"], r["exact_match"], float(r["f1"])) for r in rows] == [
        ("q0", "Köln|in <script>Köln", "Köln", "1", 1.0),
        ("q1", "", "", "1", 1.0),
        ("q2", "the Rhine", "on the Rhine", "0", pytest.approx(2 / 3)),
        ("q3", "Zoë", "👍", "0", 0.0),
    ]
    assert [CONTEXT[int(r["start"]) : int(r["end"])] for r in rows] == [r["predicted"] for r in rows]


def test_the_report_marks_the_accepted_answer_and_the_found_one(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.index("who?") < page.index("which river?")  # the lowest F1 first
    assert "where?" not in page and "why?" not in page
    assert '<mark class="true">Zoë</mark><span class="tag true">is</span>' in page
    assert '<mark class="wrong">👍</mark><span class="tag wrong">called</span>' in page
    assert '<mark class="wrong">on </mark>' in page and '<mark class="true wrong">the Rhine</mark>' in page
    shown = page.partition("which river?")[2].partition("</figure>")[0]
    assert '<blockquote class="marked" dir="auto">… g else is known.' in shown
    assert len(shown) < 1200
    assert "<script" not in page.lower()
    for said in ("<dt>answerable</dt><dd>3</dd>", "<dt>threshold</dt><dd>0.2500</dd>", "confusion matrix of 2 classes"):
        assert said in page


def test_figures_are_files_with_their_numbers(folder):
    assert sorted(file.name for file in (folder / "figures").iterdir()) == ["confusion.csv", "confusion.svg"]
    assert (folder / "figures" / "confusion.csv").read_text() == (
        '"true class","an answer","no answer"\n"an answer",3,0\n"no answer",0,1\n'
    )
