"""The SentencePiece model that a tokenizer.json of the kind Unigram was made from.

Both hold the same things: pieces with scores, the table of the normaliser, what is done to spaces. So TensorFlow's own
SentencePiece op reads what was published for another library. Format: google/sentencepiece, sentencepiece_model.proto.
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any

_SPACE = "\u2581"
_UNIGRAM = 1
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3


def sentence_piece_model(whole: Mapping[str, Any]) -> bytes:
    """Returns the content of a SentencePiece model file.

    Args:
        whole: what tokenizer.json says.

    Raises:
        ValueError: it does something that SentencePiece does not; the text says what.
    """
    model = whole["model"]
    if model.get("byte_fallback"):
        raise ValueError("it falls back to bytes")
    charsmap, collapses = _normalizer(whole.get("normalizer"))
    prefix, splits = _pre_tokenizer(whole.get("pre_tokenizer"))
    if splits and not charsmap:
        raise ValueError("it splits at white space that it has not made equal")
    special = {token["content"] for token in whole.get("added_tokens", []) if token.get("special")}
    unknown = model.get("unk_id")
    if unknown is None:
        raise ValueError("it has no token for what it does not know")
    pieces = b""
    for k, (piece, score) in enumerate(model["vocab"]):
        kind = _UNKNOWN if k == unknown else _CONTROL if piece in special else _NORMAL
        pieces += _bytes(1, _bytes(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind))
    name = model["vocab"][unknown][0]
    trainer = _number(3, _UNIGRAM) + _number(4, len(model["vocab"])) + _number(40, unknown) + _bytes(45, name.encode())
    normalizer = _bytes(2, charsmap) + _number(3, prefix) + _number(4, collapses or splits) + _number(5, 1)
    return pieces + _bytes(2, trainer) + _bytes(3, normalizer)


def _normalizer(settings: Mapping[str, Any] | None) -> tuple[bytes, bool]:
    """Returns the table of characters, and whether runs of spaces become one."""
    steps = settings["normalizers"] if settings and settings["type"] == "Sequence" else [settings] if settings else []
    charsmap, collapses = b"", False
    for step in steps:
        if step["type"] == "Precompiled":
            charsmap = base64.b64decode(step["precompiled_charsmap"])
        elif step["type"] == "Replace" and step["pattern"] == {"Regex": " {2,}"} and step["content"] in (" ", _SPACE):
            collapses = True
        elif step["type"] != "Strip":  # SentencePiece strips where it collapses
            raise ValueError(f"its normaliser has the step {step['type']}")
    return charsmap, collapses


def _pre_tokenizer(settings: Mapping[str, Any] | None) -> tuple[bool, bool]:
    """Returns whether a space is put before the text, and whether white space is only a border between words."""
    steps = settings["pretokenizers"] if settings and settings["type"] == "Sequence" else [settings] if settings else []
    kinds = [step["type"] for step in steps]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]) or steps[-1].get("replacement", _SPACE) != _SPACE:
        raise ValueError(f"it splits words by {', '.join(kinds) or 'nothing'}")
    scheme = steps[-1].get("prepend_scheme", "always")
    prefix = steps[-1].get("add_prefix_space", scheme != "never")
    return bool(prefix), len(kinds) == 2


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Returns a number in groups of seven bits, the lowest first (Protocol Buffers, "Encoding")."""
    groups = b""
    while value > 0x7F:
        groups += bytes([value & 0x7F | 0x80])
        value >>= 7
    return groups + bytes([value])
