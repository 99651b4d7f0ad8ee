"""Text of the user's in a form that every page and picture can hold."""

import re

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Returns the text with U+FFFD for what XML or UTF-8 cannot hold, and without marks that turn the text after them.

    Those are control characters and lone surrogates (bytes of a file name that are not UTF-8), and the explicit
    directional marks of Unicode's bidirectional algorithm.
    """
    return _TURNING.sub("", _UNFIT.sub("\ufffd", text))


def shortened(text: str, most: int) -> str:
    """Returns the text, or its beginning and `…` where it has more than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
