"""Tags as spans, against seqeval, and which token of a word has its label."""

import numpy as np
import pytest
import tensorflow as tf
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from tfpt.tasks._tagging import TagSet, label_positions

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER", "I-X")


@pytest.fixture(scope="module")
def random_tags():
    """Numbers of tags, `[300, 12]`, and how many of each row count."""
    random = np.random.default_rng(0)
    return random.integers(len(TAGS), size=(300, 12)), random.integers(1, 13, size=300)


def names(tags, lengths):
    return [[TAGS[tag] for tag in row[:length]] for row, length in zip(tags, lengths, strict=True)]


def padded(tags, lengths):
    return tf.constant(np.where(np.arange(tags.shape[1]) < lengths[:, None], tags, -1), tf.int32)


def test_spans_are_those_of_seqeval(random_tags):
    tags, lengths = random_tags
    tag_set = TagSet.of(TAGS)
    spans = tag_set.spans(padded(tags, lengths))
    kinds, starts, length = (value.numpy() for value in (spans.kinds, spans.starts, spans.length))
    for k, row in enumerate(names(tags, lengths)):
        found = [(tag_set.types[kinds[k, w]], w, w + length[k, w] - 1) for w in np.flatnonzero(starts[k])]
        assert found == get_entities(row)


def test_counts_give_the_metrics_of_seqeval(random_tags):
    from tfpt.tasks.token_classification import TokenClassification

    true, lengths = random_tags
    random = np.random.default_rng(1)
    predicted = np.where(random.random(true.shape) < 0.7, true, random.integers(len(TAGS), size=true.shape))
    logits = tf.one_hot(predicted, len(TAGS))
    position = np.tile(np.arange(true.shape[1]), [len(true), 1])
    position[random.random(true.shape) < 0.05] = -1  # cut off
    predicted = np.where(position < 0, 0, predicted)
    batch = {"targets": {"tags": padded(true, lengths) + 1, "position": tf.constant(position, tf.int32) + 1}}
    task, state = TokenClassification(), {"classes": list(TAGS)}
    statistics = {name: v.numpy() for name, v in task.statistics(logits, batch, state).items()}
    found = task.metrics(statistics, state)
    pair = names(true, lengths), names(predicted, lengths)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert found[name] == pytest.approx(score(*pair)), name
    assert found["word_accuracy"] == pytest.approx(accuracy_score(*pair))
    counted = np.arange(true.shape[1]) < lengths[:, None]
    assert found["cut_off"] == pytest.approx((position < 0)[counted].mean())
    report = classification_report(*pair, output_dict=True)
    for row in task.details(statistics, state)["per_class"]:
        theirs = report[row["class"]]
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )


def test_nothing_found_is_zero():
    from tfpt.tasks.token_classification import TokenClassification

    nothing = {name: np.zeros((2, 3), int) for name in ("true", "predicted", "correct")}
    nothing |= {name: np.zeros(2, int) for name in ("words", "right", "cut_off")}
    assert set(TokenClassification().metrics(nothing, {}).values()) == {0.0}


def test_tags_that_are_no_spans_are_a_span_each():
    tag_set = TagSet.of(("NOUN", "VERB", "O"))
    spans = tag_set.spans(tf.constant([[0, 0, 1, 2, -1]]))
    assert tag_set.types == ("NOUN", "VERB", "O")
    assert spans.starts.numpy().tolist() == [[True, True, True, True, False]]
    assert spans.length.numpy()[0, :4].tolist() == [1, 1, 1, 1]


def test_the_label_is_on_the_first_token_that_is_no_punctuation():
    word = tf.constant([[0, 1, 1, 1, 2, 4, 4, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    punctuation = tf.constant([[0, 1, 1, 0, 0, 1, 1, 0], [0] * 8])
    assert label_positions(word, punctuation, tf.constant(5)).numpy().tolist() == [[3, 4, -1, 5, -1], [-1] * 5]
    assert label_positions(word, punctuation, tf.constant(1)).numpy().tolist() == [[3], [-1]]
    assert label_positions(word[:, :0], punctuation[:, :0], tf.constant(2)).numpy().tolist() == [[-1, -1], [-1, -1]]
