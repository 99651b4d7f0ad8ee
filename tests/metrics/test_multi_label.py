import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tfpt.metrics.multi_label import most_wrong, multi_label_metrics, per_class


def split(examples=300, seed=0):
    random = np.random.default_rng(seed)
    scores = random.random((examples, 4)).astype(np.float32)
    labels = random.random((examples, 4)) < scores * [1, 0.7, 0.3, 1]
    right = np.where(labels, scores, 1 - scores).astype(np.float64)
    return {
        "scores": scores,
        "labels": labels,
        "chosen": scores >= [0.5, 0.4, 0.8, 0.5],
        "log_likelihood": np.log(right).mean(axis=1),
    }


def test_equals_scikit_learn():
    values = split()
    labels, chosen = values["labels"], values["chosen"]
    assert multi_label_metrics(values) == pytest.approx(
        {
            "macro_f1": sklearn_metrics.f1_score(labels, chosen, average="macro"),
            "micro_f1": sklearn_metrics.f1_score(labels, chosen, average="micro"),
            "subset_accuracy": sklearn_metrics.accuracy_score(labels, chosen),
            "roc_auc": sklearn_metrics.roc_auc_score(labels, values["scores"]),
            "average_precision": sklearn_metrics.average_precision_score(labels, values["scores"]),
            "log_loss": np.mean(
                [sklearn_metrics.log_loss(labels[:, k], values["scores"][:, k].astype(float)) for k in range(4)]
            ),
        }
    )


def test_a_class_that_neither_occurs_nor_is_chosen_does_not_count():
    values = split()
    values["labels"][:, 3] = values["chosen"][:, 3] = False
    known = sklearn_metrics.f1_score(values["labels"][:, :3], values["chosen"][:, :3], average="macro")
    assert multi_label_metrics(values)["macro_f1"] == pytest.approx(known)
    values["labels"][:] = values["chosen"][:] = False
    assert multi_label_metrics(values)["macro_f1"] == 0


def test_the_table_of_classes():
    values = split()
    rows = per_class(values, list("abcd"), [0.5, 0.4, 0.8, 0.5])
    expected = sklearn_metrics.precision_recall_fscore_support(values["labels"], values["chosen"])
    assert [(row["class"], row["threshold"]) for row in rows] == [("a", 0.5), ("b", 0.4), ("c", 0.8), ("d", 0.5)]
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], column)
    theirs = sklearn_metrics.average_precision_score(values["labels"], values["scores"], average=None)
    np.testing.assert_allclose([row["average_precision"] for row in rows], theirs)


def test_most_wrong_is_the_worst_wrong_class():
    scores = np.array([[0.9, 0.6], [0.45, 0.1], [0.2, 0.55], [0.8, 0.1]])
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    assert most_wrong(scores, labels, scores >= 0.5, count=9).tolist() == [2, 3, 0, 1]
    assert most_wrong(scores, labels, labels, count=9).tolist() == []
    assert most_wrong(scores, labels, scores >= 0.5, count=1).tolist() == [2]
