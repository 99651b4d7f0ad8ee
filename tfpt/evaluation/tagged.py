"""Texts with spans (names, places, ...): the true ones beside those that were found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfpt.data import DataSource
from tfpt.evaluation.marks import Mark, Piece, pieces
from tfpt.evaluation.originals import originals
from tfpt.evaluation.scoring import Scores
from tfpt.tasks._tagging import TagSet

COLUMNS = ("start", "end", "text", "label", "predicted", "score", "correct")
"""Of a span in predictions.csv, behind name and split."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a text that is something.

    Attributes:
        start: its first character.
        end: the one after its last.
        words: number of its first word and of its last.
        label: what it is.
        score: of the answer; NaN for the truth.
    """

    start: int
    end: int
    words: tuple[int, int]
    label: str
    score: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A text with its spans, by their words."""

    text: str
    true: Mapping[tuple[int, int], Span]
    found: Mapping[tuple[int, int], Span]

    def right(self, words: tuple[int, int]) -> bool:
        """Tells whether the span of these words is found as what it is."""
        return words in self.true and words in self.found and self.true[words].label == self.found[words].label

    def wrong(self) -> int:
        """Returns how many spans are missed, or found where there are none."""
        return sum(not self.right(words) for spans in (self.true, self.found) for words in spans)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yields `COLUMNS` of each span that is true or found, in the order of the text."""
        for words in sorted({*self.true, *self.found}):
            true, found = self.true.get(words), self.found.get(words)
            span = found or true
            assert span
            yield (
                *(span.start, span.end, self.text[span.start : span.end]),
                true.label if true else "",
                found.label if found else "",
                found.score if found else "",
                int(self.right(words)),
            )

    def marked(self) -> list[tuple[str, list[Piece]]]:
        """Returns the text with the true spans, and with those that were found."""
        true = [_mark(s, "true" if self.right(words) else "missed") for words, s in self.true.items()]
        found = [_mark(s, "right" if self.right(words) else "wrong") for words, s in self.found.items()]
        return [("is", pieces(self.text, true)), ("called", pieces(self.text, found))]


def tagged(scores: Scores, source: DataSource, state: Mapping[str, Any], rows: Sequence[int]) -> Iterator[Tagged]:
    """Yields scored texts with their spans.

    Args:
        scores: whose `kept` has `start`, `end`, `label` and `score` of the spans.
        source: with `text` and `tags`.
        state: of the task.
        rows: positions among the scored examples.
    """
    tag_set = TagSet.of(state["classes"])
    for row, one in zip(rows, originals(source, scores.examples[rows], ("text", "tags")), strict=True):
        text = one["text"]
        values = zip(*(scores.kept[name][row] for name in ("start", "end", "label", "score")), strict=True)
        spans = [_found(text, *value) for value in values if value[2]]
        yield Tagged(text=text, true=true_spans(text, one["tags"], tag_set), found={span.words: span for span in spans})


def true_spans(text: str, tags: Sequence[int], tag_set: TagSet) -> dict[tuple[int, int], Span]:
    """Returns the spans that tags of words make, by their words.

    Args:
        text: words with one space between them.
        tags: one a word.
        tag_set: what the tags mean.
    """
    spans: list[list[int]] = []
    before = -1
    for word, tag in enumerate(tags):
        kind = tag_set.kinds[tag]
        if kind >= 0 and (tag_set.begins[tag] or kind != before):
            spans.append([word, word, kind])
        elif kind >= 0:
            spans[-1][1] = word
        before = kind
    words = text.split(" ")
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    return {
        (first, last): Span(
            start=starts[first], end=starts[last] + len(words[last]), words=(first, last), label=tag_set.types[kind]
        )
        for first, last, kind in spans
    }


def most_wrong(scores: Scores, count: int) -> list[int]:
    """Returns the positions of the texts with the most wrong spans, most first; those without any are left out."""
    values = scores.statistics
    wrong = (values["true"] + values["predicted"] - 2 * values["correct"]).sum(axis=1)
    return [k for k in np.argsort(-wrong, kind="stable")[:count].tolist() if wrong[k]]


def _found(text: str, start: int, end: int, label: bytes, score: float) -> Span:
    # Punctuation at the ends of a word may be left out of what is found: words are what is compared.
    words = text.count(" ", 0, start), text.count(" ", 0, end)
    return Span(start=int(start), end=int(end), words=words, label=label.decode("utf-8", "replace"), score=float(score))


def _mark(span: Span, kind: str) -> Mark:
    note = {"missed": " missed", "right": " ✓", "wrong": " ✗"}.get(kind, "")
    return Mark(start=span.start, end=span.end, kind=kind, label=span.label + note)
