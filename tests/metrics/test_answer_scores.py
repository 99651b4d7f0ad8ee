"""Cases of the official evaluation of SQuAD 1.1 and 2.0, worked out by hand."""

import pytest

from tfpt.metrics.answers import exact_match, f1, words


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("The  Rhine!", ["rhine"]),
        ("A cat, an owl and the dog", ["cat", "owl", "and", "dog"]),
        ("U.S.", ["us"]),
        ("mother-in-law", ["motherinlaw"]),
        ("the–end", ["–end"]),  # a dash that is not ASCII stays, and is where a word ends
        ("théa", ["théa"]),  # no article: é is a letter
        ("a the", []),
        ("KÖLN\t\u00a0Süd", ["köln", "süd"]),
    ],
)
def test_words(answer, left):
    assert words(answer) == left


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "overlap"),
    [
        ("the Rhine", ["Rhine", "river Rhine"], 1.0, 1.0),
        ("river", ["Rhine", "river Rhine"], 0.0, 2 / 3),
        ("in Köln on the Rhine", ["Köln"], 0.0, 2 * (1 / 4) / (1 / 4 + 1)),
        ("Bonn", ["Köln"], 0.0, 0.0),
        ("well well", ["well"], 0.0, 2 / 3),  # a word counts as often as it stands there
        ("", [""], 1.0, 1.0),
        ("Bonn", [""], 0.0, 0.0),
        ("the", [""], 1.0, 1.0),  # no words left: no answer
        ("", ["Köln"], 0.0, 0.0),
        ("x", ["the", "x"], 1.0, 1.0),
        ("", ["the", "x"], 0.0, 0.0),  # an accepted answer without words is left out
    ],
)
def test_scores(answer, accepted, exact, overlap):
    assert exact_match(answer, accepted) == exact
    assert f1(answer, accepted) == pytest.approx(overlap)
