import numpy as np
import tensorflow as tf

from tfpt.data import DataSource, Index, Info
from tfpt.evaluation.mistakes import LONGEST_TEXT, most_wrong
from tfpt.evaluation.scoring import Scores

CLASSES = ["a", "b", "c"]


class Pairs(DataSource):
    """Text k is a pair of texts; no other may be read."""

    def __init__(self, *read):
        super().__init__()
        self.allowed = set(read)

    def info(self):
        return Info(features={"text": "text", "text_pair": "text"}, classes=tuple(CLASSES), size=9)

    def example(self, k):
        assert int(k) in self.allowed
        return {"text": tf.constant(b"one \xff" if k == 7 else b"x" * 1000), "text_pair": tf.constant(b"other")}


def found(statistics, state, *, kept=None, source=None, count=5):
    examples = np.array([7, 3, 5])
    scores = Scores(
        examples=examples, statistics=statistics, kept=kept or {}, chosen=examples[:0], answers={}, batch_size=3
    )
    index = Index(names=[f"n{k}" for k in range(9)], labels=None, splits=[""] * 9)
    return most_wrong(scores, index, source or Pairs(7, 3, 5), state, count=count)


def said(mistakes):
    return [(one.name, one.label, one.predicted, one.remark) for one in mistakes]


def test_of_one_class_an_example():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.9, 0.1, 0.0]])
    statistics = {"label": np.array([1, 2, 1]), "predicted": np.array([0, 2, 0])}
    mistakes = found(statistics, {"classes": CLASSES}, kept={"scores": scores})
    assert said(mistakes) == [("n5", "b", "a", "0.900"), ("n7", "b", "a", "0.700")]
    assert mistakes[1].text == "one \ufffd ¶ other" and mistakes[1].image is None
    assert len(mistakes[0].text) == LONGEST_TEXT and mistakes[0].text.endswith("x…")


def test_of_several_classes_an_example():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.9, 0.1]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 1]], bool)
    statistics = {"scores": scores, "labels": labels, "chosen": scores >= 0.5}
    assert said(found(statistics, {"classes": CLASSES})) == [
        ("n5", "a, c", "b", "b 0.900, c 0.100, a 0.400"),
        ("n3", "none", "c", "c 0.800"),
    ]


def test_of_numbers_in_units_of_their_spread():
    statistics = {
        "value": np.array([[1.0, 100.0], [2.0, 0.0], [0.5, 0.0]]),
        "target": np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    }
    assert said(found(statistics, {"spread": [1.0, 1000.0]}, count=2)) == [
        ("n3", "0, 0", "2, 0", "off by 2, 0"),
        ("n5", "0, 0", "0.5, 0", "off by 0.5, 0"),
    ]


def test_nothing_is_read_for_none_and_other_tasks_have_none():
    statistics = {"value": np.ones((3, 1)), "target": np.zeros((3, 1))}
    assert found(statistics, {"spread": [1.0]}, source=Pairs(), count=0) == []
    assert found({"counts": np.ones(3)}, {}, source=Pairs()) == []
