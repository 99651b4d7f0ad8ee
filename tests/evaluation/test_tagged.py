"""Spans of texts: the truth beside what was found, in predictions.csv and in the report."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tfpt.data import DataSource, Index, Info
from tfpt.evaluation import report
from tfpt.evaluation.mistakes import most_wrong
from tfpt.evaluation.results import write_results
from tfpt.evaluation.scoring import Scores
from tfpt.evaluation.tagged import true_spans
from tfpt.tasks._tagging import TagSet

TAGS = ("O", "B-LOC", "I-LOC", "B-<script>", "I-<script>")
TEXTS = ("Zoë 👍 Vogt left Graburg .", "nobody was there", "(Holdorf) and Bonn")
TRUE = ([3, 4, 4, 0, 1, 0], [0, 0, 0], [1, 0, 1])


class Sentences(DataSource):
    def info(self):
        return Info(features={"text": "text", "tags": "tags"}, classes=TAGS, size=len(TEXTS))

    def index(self):
        return Index(names=[f"t.txt:{k}" for k in range(len(TEXTS))], labels=None, splits=["test"] * len(TEXTS))

    def example(self, k):
        tags = tf.ragged.constant(TRUE, dtype=tf.int64)[k]
        return {"text": tf.constant(TEXTS)[k], "tags": tags}


def scored(*spans):
    """Returns scores of texts in another order than in the data; spans are (start, end, label, score)."""
    longest = max(map(len, spans))
    rows = [[*row, *[(0, 0, "", 0.0)] * (longest - len(row))] for row in spans]
    kept = {
        name: np.array([[span[k].encode() if name == "label" else span[k] for span in row] for row in rows], kind)
        for k, (name, kind) in enumerate({"start": int, "end": int, "label": object, "score": np.float32}.items())
    }
    counts = {
        "true": [[0, 0], [2, 0], [1, 1]],
        "predicted": [[0, 0], [1, 1], [1, 1]],
        "correct": [[0, 0], [1, 0], [1, 0]],
    }
    statistics = {name: np.array(values) for name, values in counts.items()}
    examples = np.array([1, 2, 0])
    return Scores(examples=examples, statistics=statistics, kept=kept, chosen=examples[:0], answers={}, batch_size=3)


FOUND = scored(
    [],
    [(1, 8, "LOC", 0.75), (14, 18, "<script>", 0.5)],
    [(0, 5, "<script>", 0.9), (16, 23, "LOC", 1.0)],
)
STATE = {"classes": list(TAGS)}


def test_tags_are_read_as_the_metrics_read_them():
    found = true_spans("a b c d e", [2, 2, 1, 0, 4], TagSet.of(TAGS))
    assert [(s.start, s.end, s.words, s.label) for s in found.values()] == [
        (0, 3, (0, 1), "LOC"), (4, 5, (2, 2), "LOC"), (8, 9, (4, 4), "<script>"),
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    source = Sentences()
    write_results(
        tmp_path, title="t", summary={}, metrics={"failed": []}, scored={"test": FOUND}, index=source.index(),
        source=source, state=STATE, report_examples=5,
    )  # fmt: skip
    return tmp_path


def test_predictions_have_a_line_for_each_span(folder):
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [
        ("t.txt:2", "test", "1", "8", "Holdorf", "LOC", "LOC", "0.75", "1"),  # without the brackets of its word
        ("t.txt:2", "test", "14", "18", "Bonn", "LOC", "<script>", "0.5", "0"),
        ("t.txt:0", "test", "0", "5", "Zoë 👍", "", "<script>", "0.8999999761581421", "0"),
        ("t.txt:0", "test", "0", "10", "Zoë 👍 Vogt", "<script>", "", "", "0"),
        ("t.txt:0", "test", "16", "23", "Graburg", "LOC", "LOC", "1.0", "1"),
    ]


def test_the_report_shows_the_truth_over_the_answer(folder):
    wrong = most_wrong(FOUND, Sentences().index(), Sentences(), STATE, count=5)
    assert [(one.name, one.remark) for one in wrong] == [
        ("t.txt:2", "2 wrong or missed"), ("t.txt:0", "2 wrong or missed"),
    ]  # fmt: skip
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<mark class="true">(Holdorf)</mark><span class="tag true">LOC</span>' in page
    assert '<mark class="right">Holdorf</mark><span class="tag right">LOC ✓</span>' in page
    assert '<mark class="missed">Zoë 👍 Vogt</mark><span class="tag missed">&lt;script&gt; missed</span>' in page
    assert '<mark class="wrong">Zoë 👍</mark><span class="tag wrong">&lt;script&gt; ✗</span>' in page
    assert "<script" not in page.lower()


def test_examples_can_be_left_out(tmp_path):
    source = Sentences()
    for count in (0, None):
        write_results(
            tmp_path, title="t", summary={}, metrics={"failed": ["t.txt:9"]}, scored={"test": FOUND},
            index=source.index(), source=source, state=STATE, report_examples=count,
        )  # fmt: skip
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "Graburg" not in page and "t.txt" not in page and "1 examples could not be decoded" in page


def test_types_of_spans_have_a_table(tmp_path):
    rows = [{"class": "LOC", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 3}]
    page = report.render(report.Report(title="t", metrics={"per_class": rows, "counted": "spans"}))
    assert "Types of spans" in page and '<th class="n">spans</th>' in page
    assert "Fewer than 10 test spans in 1 of 1 classes" in page
