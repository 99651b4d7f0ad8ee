"""Answers files or a text with an exported model, each for itself: one that cannot be read never costs another its answer."""

import csv
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.data._tiff import for_model
from tfpt.data._walk import PICTURES, walk
from tfpt.errors import UserError
from tfpt.serving.servable import Servable

BATCH_SIZE = 32
SEPARATOR = "|||"
"""Between the two texts of `--text`, for models that take two."""

_BAD = (tf.errors.InvalidArgumentError, tf.errors.CancelledError)
"""What a picture that does not decode raises; in a batch its error may be overtaken by that of a neighbour it stopped."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileAnswer:
    """The answer to one file.

    Attributes:
        path: the file, or what else the example is called.
        answer: decoded values by name; empty when there is none.
        error: why there is none; empty when there is.
        text: what was answered, where it is a text of a file.
    """

    path: str
    answer: dict[str, Any]
    error: str = ""
    text: str = ""


def find_files(paths: Sequence[str]) -> list[str]:
    """Returns the files, and the pictures at any depth of the folders, in order.

    Raises:
        UserError: a path is not there, or a folder holds no picture.
    """
    found: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = walk(os.fsencode(path)).files
            if not inside:
                raise UserError(
                    f"{path} holds no picture; pictures end in {', '.join(sorted(e.decode() for e in PICTURES))}."
                )
            found += [str(path / os.fsdecode(file)) for file in inside]
        elif path.exists():
            found.append(str(path))
        else:
            raise UserError(f"{path} is not there; give files, or folders of pictures.")
    return found


def answer_files(servable: Servable, files: Sequence[str], *, console: Console) -> Iterator[FileAnswer]:
    """Yields the answer to each file, in order."""
    features = {name for p in servable.preprocessors.values() for name in p.raw_features}
    if features != {"image"}:
        raise UserError(f"The model takes {', '.join(sorted(features))}, not files of pictures.")
    with console.track("Answering", total=len(files), unit="files") as track:
        for start in range(0, len(files), BATCH_SIZE):
            part = files[start : start + BATCH_SIZE]
            yield from answer_batch(servable, [(file, _read(file)) for file in part])
            track.advance(len(part))


def answer_text(servable: Servable, text: str) -> FileAnswer:
    """Returns the answer to a text, or to two with `SEPARATOR` between them, where the model takes two.

    Raises:
        UserError: it takes another number of texts, or none.
    """
    features = [name for p in servable.preprocessors.values() for name in p.raw_features]
    texts = [part.strip() for part in text.split(SEPARATOR)] if len(features) > 1 else [text]
    if "image" in features or len(texts) != len(features):
        wanted = "files of pictures" if "image" in features else f' --text="{f" {SEPARATOR} ".join(features)}"'
        raise UserError(f"--text: the model takes {' and '.join(features)}; write {wanted.strip()}.")
    raw = {name: [part.encode("utf-8", "replace")] for name, part in zip(features, texts, strict=True)}
    return FileAnswer(path=text, answer=_rows(servable.predict(raw))[0])


def _read(file: str) -> dict[str, bytes] | str:
    """Returns the file's bytes, or a sentence when it cannot be read."""
    try:
        return {"image": for_model(Path(file).read_bytes())}
    except OSError as error:
        return error.strerror or str(error)


def answer_batch(servable: Servable, asked: Sequence[tuple[str, Mapping[str, bytes] | str]]) -> Iterator[FileAnswer]:
    """Yields the answers to a batch.

    Args:
        servable: the model.
        asked: what each is called, and its raw values by feature, or a sentence why there are none.
    """
    good = [raw for _, raw in asked if not isinstance(raw, str)]
    answers: Iterator[dict[str, Any] | None]
    try:
        answers = iter(_answered(servable, good))
    except _BAD:  # one of them does not decode: find out which
        answers = (_answer_one(servable, raw) for raw in good)
    for name, raw in asked:
        if isinstance(raw, str):
            yield FileAnswer(path=name, answer={}, error=raw)
            continue
        answer = next(answers)
        error = "" if answer else "it is not a picture that can be decoded"
        yield FileAnswer(path=name, answer=answer or {}, error=error, text=_text(raw))


def _answered(servable: Servable, raw: Sequence[Mapping[str, bytes]]) -> list[dict[str, Any]]:
    return _rows(servable.predict({name: [one[name] for one in raw] for name in raw[0]})) if raw else []


def _answer_one(servable: Servable, raw: Mapping[str, bytes]) -> dict[str, Any] | None:
    try:
        return _answered(servable, [raw])[0]
    except _BAD:
        return None


def _text(raw: Mapping[str, bytes]) -> str:
    return raw["text"].decode("utf-8", "replace") if "text" in raw else ""


def _rows(answers: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    length = len(next(iter(answers.values())))
    return [{name: _plain(values[i]) for name, values in answers.items()} for i in range(length)]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def highest(answer: dict[str, Any], count: int, *, text: str = "") -> list[tuple[str, float]]:
    """Returns what an answer says, each with its score.

    Args:
        answer: decoded values by name.
        count: how many of the highest classes, but all chosen ones; of spans there are all, in their order.
        text: what was answered, which spans are of.
    """
    if "scores" in answer and "classes" in answer:
        pairs, chosen = zip(answer["classes"], answer["scores"], strict=True), _chosen(answer)
        order = sorted(pairs, key=lambda pair: (not chosen.get(pair[0]), -pair[1]))
        return order[: max(count, sum(chosen.values()))]
    if _has_spans(answer):
        spans = zip(*(answer[name] for name in ("label", "start", "end", "score")), strict=True)
        return [(f"{label} {text[start:end]}", score) for label, start, end, score in spans if label]
    if "values" in answer:
        several = len(answer["values"]) > 1
        return [(f"value{k}" if several else "value", value) for k, value in enumerate(answer["values"], 1)]
    if "answer" in answer:
        return [(answer["answer"] or "(no answer)", answer["score"])]
    return [(name, value) for name, value in answer.items() if isinstance(value, float)][:count]


def in_words(found: FileAnswer, count: int) -> list[str]:
    """Returns what an answer says, as it is shown to people: at least one text."""
    pairs = highest(found.answer, count, text=found.text or found.path)
    marks = {name: f"[{'x' if is_chosen else ' '}] " for name, is_chosen in _chosen(found.answer).items()}
    nothing = "nothing found" if _has_spans(found.answer) else str(found.answer)
    return [f"{marks.get(what, '')}{what} {score:.3f}" for what, score in pairs] or [nothing]


def _chosen(answer: dict[str, Any]) -> dict[str, bool]:
    """Returns whether each class is chosen, where an example may have any number of them."""
    return dict(zip(answer["classes"], answer["chosen"], strict=True)) if "chosen" in answer else {}


def _has_spans(answer: dict[str, Any]) -> bool:
    return "start" in answer and isinstance(answer.get("label"), list)


def write_answers(answers: Iterable[FileAnswer], file: TextIO, *, form: str, top: int) -> tuple[int, int]:
    """Writes answers as `csv` or `jsonl`, one after the other: they are never in memory all at once.

    Names that are not UTF-8 keep their bytes where the stream allows it.

    Args:
        answers: may be made while they are written.
        file: where to.
        form: `csv` or `jsonl`.
        top: how many of the highest scores a row of CSV has.

    Returns:
        How many answers there were, and how many of them are errors.
    """
    count = failed = 0

    def counted() -> Iterator[FileAnswer]:
        nonlocal count, failed
        for a in answers:
            count, failed = count + 1, failed + bool(a.error)
            yield a

    (_write_lines if form == "jsonl" else _write_rows)(counted(), file, top)
    return count, failed


def _write_lines(answers: Iterable[FileAnswer], file: TextIO, top: int) -> None:
    for a in answers:
        error = {"error": a.error} if a.error else {}
        file.write(json.dumps({"path": a.path, **a.answer, **error}, ensure_ascii=False) + "\n")


def _write_rows(answers: Iterable[FileAnswer], file: TextIO, top: int) -> None:
    """Writes CSV; rows wait on disk, because the longest of them says how many columns there are."""
    width, several = top, False
    with tempfile.TemporaryFile("w+", encoding="utf-8", prefix="tfpt-predict-") as waiting:
        for a in answers:
            pairs = highest(a.answer, top, text=a.text or a.path)
            chosen = [name for name, is_chosen in _chosen(a.answer).items() if is_chosen]
            width, several = max(width, len(pairs)), several or "chosen" in a.answer
            cells = [cell for label, score in pairs for cell in (label, f"{score:.7g}")]
            waiting.write(json.dumps([a.path, "|".join(chosen), cells, a.error]) + "\n")
        waiting.seek(0)
        writer = csv.writer(file, lineterminator="\n")
        columns = [column for k in range(1, width + 1) for column in (f"label{k}", f"score{k}")]
        writer.writerow(["path", *["chosen"] * several, *columns, "error"])
        for path, chosen, cells, error in map(json.loads, waiting):
            writer.writerow([path, *[chosen] * several, *cells, *[""] * (2 * width - len(cells)), error])
