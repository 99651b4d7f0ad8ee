"""Answers to questions against those that are accepted, by the rules of SQuAD.

Rajpurkar et al., 2016 (arXiv:1606.05250), and 2018 (arXiv:1806.03822) for questions without an answer: case, punctuation,
articles and white space do not matter; the best of the accepted answers counts; what has no words is no answer.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def words(answer: str) -> list[str]:
    """Returns what of an answer counts."""
    return _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """Returns 1 where the words are those of an accepted answer, else 0; nothing accepted means that there is no answer."""
    return float(words(answer) in _references(accepted))


def f1(answer: str, accepted: Sequence[str]) -> float:
    """Returns the harmonic mean of precision and recall of the words, each as often as it stands there."""
    return max(_f1(words(answer), reference) for reference in _references(accepted))


def _references(accepted: Sequence[str]) -> list[list[str]]:
    return [found for found in map(words, accepted) if found] or [[]]


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    return 2 * (Counter(answer) & Counter(reference)).total() / (len(answer) + len(reference))
