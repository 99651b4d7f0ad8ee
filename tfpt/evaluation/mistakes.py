"""The most wrong examples of a split, as the report shows them: what each is, what it was called, and what it looks like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpt.data import DataSource, Index
from tfpt.evaluation import questions, tagged
from tfpt.evaluation.printable import shortened
from tfpt.evaluation.report import WrongExample
from tfpt.evaluation.scoring import Scores
from tfpt.metrics import classification, multi_label

LONGEST_TEXT = 600
"""Characters of a text that are shown."""
LONGEST_ANSWER = 160
"""Characters of an answer that are shown."""

Mistake = tuple[int, str, str, str]
"""Position among the scored examples, the truth, the answer, and how far off it is."""


def most_wrong(
    scores: Scores, index: Index, source: DataSource, state: Mapping[str, Any], *, count: int
) -> list[WrongExample]:
    """Returns the worst mistakes; none for tasks whose answers are not of a known kind.

    Args:
        scores: of the split.
        index: the data's table.
        source: the data, which the pictures and texts are read from.
        state: of the task.
        count: how many at most; nothing is read for 0.
    """
    if not count:
        return []
    features = source.info().features
    if "tags" in features and "label" in scores.kept:
        return _of_spans(scores, index, source, state, count)
    if "answers" in features and "answer" in scores.kept:
        return _of_questions(scores, index, source, count)
    found = []
    for position, label, predicted, remark in _mistakes(scores, state, count):
        k = int(scores.examples[position])
        raw = _raw(source, k)
        text = " ¶ ".join(raw[name].decode("utf-8", "replace") for name in _TEXTS if name in raw)
        found.append(
            WrongExample(
                name=index.names[k],
                label=label,
                predicted=predicted,
                remark=remark,
                image=raw.get("image"),
                text=shortened(text, LONGEST_TEXT),
            )
        )
    return found


_TEXTS = ("text", "text_pair")


def _mistakes(scores: Scores, state: Mapping[str, Any], count: int) -> Sequence[Mistake]:
    values, kept = scores.statistics, scores.kept
    if "predicted" in values and "scores" in kept:
        return _of_classes(kept["scores"], values["label"], values["predicted"], state["classes"], count)
    if "chosen" in values:
        return _of_choices(values["scores"], values["labels"], values["chosen"], state["classes"], count)
    if "target" in values and "value" in values:
        return _of_numbers(values["value"], values["target"], np.asarray(state["spread"]), count)
    return ()


def _of_classes(
    scores: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], count: int
) -> list[Mistake]:
    worst = classification.most_wrong(scores, labels, predicted, count=count)
    return [(i, classes[labels[i]], classes[predicted[i]], f"{scores[i, predicted[i]]:.3f}") for i in worst.tolist()]


def _of_choices(
    scores: np.ndarray, labels: np.ndarray, chosen: np.ndarray, classes: Sequence[str], count: int
) -> list[Mistake]:
    found = []
    for i in multi_label.most_wrong(scores, labels, chosen, count=count).tolist():
        wrong = np.flatnonzero(labels[i] != chosen[i])
        wrong = wrong[np.argsort(-np.abs(scores[i, wrong] - labels[i, wrong]), kind="stable")][:3]
        remark = ", ".join(f"{shortened(classes[c], 40)} {scores[i, c]:.3f}" for c in wrong.tolist())
        found.append((i, _list(classes, labels[i]), _list(classes, chosen[i]), remark))
    return found


def _of_numbers(value: np.ndarray, target: np.ndarray, spread: np.ndarray, count: int) -> list[Mistake]:
    """The most wrong is the furthest off in standard deviations of the training targets, over all numbers."""
    error = value - target
    worst = np.argsort(-np.abs(error / spread).max(axis=1), kind="stable")[:count]
    return [(i, _numbers(target[i]), _numbers(value[i]), f"off by {_numbers(error[i])}") for i in worst.tolist()]


def _of_spans(
    scores: Scores, index: Index, source: DataSource, state: Mapping[str, Any], count: int
) -> list[WrongExample]:
    worst = tagged.most_wrong(scores, count)
    return [
        WrongExample(
            name=index.names[int(scores.examples[position])],
            label="",
            predicted="",
            remark=f"{one.wrong()} wrong or missed",
            marked=one.marked(),
        )
        for position, one in zip(worst, tagged.tagged(scores, source, state, worst), strict=True)
    ]


def _of_questions(scores: Scores, index: Index, source: DataSource, count: int) -> list[WrongExample]:
    found = []
    for position, one in questions.most_wrong(scores, source, count):
        k = int(scores.examples[position])
        found.append(
            WrongExample(
                name=index.names[k],
                label=shortened(" or ".join(one.accepted) or questions.NONE, LONGEST_ANSWER),
                predicted=shortened(one.answer or questions.NONE, LONGEST_ANSWER),
                remark=f"score {one.score:.3f}, F1 {one.f1():.2f}",
                text=shortened(one.question, LONGEST_TEXT),
                marked=questions.marked(one, source, k),
            )
        )
    return found


def _list(classes: Sequence[str], held: np.ndarray) -> str:
    return ", ".join(classes[c] for c in np.flatnonzero(held).tolist()) or "none"


def _numbers(row: np.ndarray) -> str:
    return ", ".join(f"{number:.4g}" for number in row)


def _raw(source: DataSource, k: int) -> dict[str, bytes]:
    import tensorflow as tf

    example = source.example(tf.constant(k, tf.int64))
    return {name: example[name].numpy() for name in ("image", *_TEXTS) if name in example}
