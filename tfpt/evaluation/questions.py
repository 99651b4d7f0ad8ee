"""Questions with their contexts: the accepted answers beside those that were found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfpt.data import DataSource
from tfpt.data._questions import SEPARATOR
from tfpt.evaluation.marks import Mark, Piece, pieces
from tfpt.evaluation.originals import originals
from tfpt.evaluation.scoring import Scores
from tfpt.metrics.answers import exact_match, f1

COLUMNS = ("question", "answers", "predicted", "start", "end", "score", "exact_match", "f1")
"""Of a question in predictions.csv, behind name and split."""
NONE = "no answer"
"""How a page says that there is none."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A question and what was answered.

    Attributes:
        question: its text.
        accepted: answers; empty when there is none in the context.
        answer: what was found; empty for no answer.
        start: its first character in the context.
        end: the one after its last.
        score: of it.
    """

    question: str
    accepted: tuple[str, ...]
    answer: str
    start: int
    end: int
    score: float

    def exact_match(self) -> float:
        """Returns 1 for an accepted answer, else 0."""
        return exact_match(self.answer, self.accepted)

    def f1(self) -> float:
        """Returns the F1 of its words."""
        return f1(self.answer, self.accepted)

    def row(self) -> tuple[Any, ...]:
        """Returns `COLUMNS`."""
        told = (self.question, "|".join(self.accepted), self.answer, self.start, self.end, self.score)
        return (*told, int(self.exact_match()), self.f1())


def answered(scores: Scores, source: DataSource, rows: Sequence[int]) -> Iterator[Answered]:
    """Yields scored questions.

    Args:
        scores: whose `kept` has `answer`, `start`, `end` and `score`.
        source: with `question` and `answers`.
        rows: positions among the scored examples.
    """
    for row, one in zip(rows, originals(source, scores.examples[rows], ("question", "answers")), strict=True):
        yield Answered(
            question=one["question"],
            accepted=tuple(filter(None, one["answers"].split(SEPARATOR))),
            answer=scores.kept["answer"][row].decode("utf-8", "replace"),
            **{name: int(scores.kept[name][row]) for name in ("start", "end")},
            score=float(scores.kept["score"][row]),
        )


def most_wrong(scores: Scores, source: DataSource, count: int) -> list[tuple[int, Answered]]:
    """Returns positions and questions with a wrong answer: the lowest F1 first, of equal ones the highest score."""
    found = [
        (k, one) for k, one in enumerate(answered(scores, source, range(len(scores.examples)))) if one.exact_match() < 1
    ]
    return sorted(found, key=lambda pair: (pair[1].f1(), -pair[1].score))[:count]


def marked(one: Answered, source: DataSource, example: int) -> list[tuple[str, list[Piece]]]:
    """Returns the context with the first accepted answer and the found one, where there are such."""
    (raw,) = originals(source, np.array([example]), ("context", "answer_text", "answer_start"))
    marks = []
    if raw["answer_start"] >= 0:
        start = int(raw["answer_start"])
        marks.append(Mark(start=start, end=start + len(raw["answer_text"]), kind="true", label="is"))
    if one.answer:
        marks.append(Mark(start=one.start, end=one.end, kind="wrong", label="called"))
    return [("", pieces(raw["context"], marks))]
