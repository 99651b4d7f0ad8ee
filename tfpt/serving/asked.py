"""What is to be answered: texts of files, and the examples of a data source."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfpt import registry
from tfpt.console import Console
from tfpt.data import DataSource
from tfpt.data._utf8 import json_value, lines
from tfpt.errors import UserError
from tfpt.serving.answers import BATCH_SIZE, SEPARATOR, FileAnswer, answer_batch
from tfpt.serving.servable import Servable

Asked = tuple[str, dict[str, bytes] | str]
"""What the user calls an example, and its raw values by feature, or a sentence why there are none."""


def of_files(files: Sequence[str], features: Sequence[str]) -> Iterator[Asked]:
    """Yields what files hold, called `FILE:LINE`.

    A .txt file has a text a line, or two with `SEPARATOR` between them; .csv, .tsv, .jsonl and .json files have columns
    or keys with the names of the features, or what these data sources take; a .json file may also be one of SQuAD.

    Args:
        files: paths.
        features: that the model reads; one or two texts.

    Raises:
        UserError: a file is of another kind, or does not hold such texts.
    """
    for file in map(Path, files):
        kind = file.suffix.lower()
        if kind == ".txt":
            yield from _of_lines(file, features)
        elif kind == ".json" and "question" in features:
            yield from _of_squad(file)
        elif kind in _TABLES:
            yield from ((f"{file.parent / name}", raw) for name, raw in of_source(_table(file, features), features))
        else:
            raise UserError(
                f"{file}: the model takes {' and '.join(features)}; give .txt files (a text a line), .csv, .tsv or .jsonl "
                'files with such columns, or --text="...".'
            )


def of_source(source: DataSource, features: Sequence[str]) -> Iterator[Asked]:
    """Yields the examples of a data source by their names.

    Args:
        source: its labels, where there are any, are not looked at.
        features: that the model reads; those of a source with two texts stand for any two.

    Raises:
        UserError: it has not got them.
    """
    info, names = source.info(), source.index().names
    own = {name: name for name in features}
    if not set(features) <= set(info.features):
        own = dict(zip(features, ("text", "text_pair"), strict=False))
        if "image" in features or len(features) != len(own) or not set(own.values()) <= set(info.features):
            raise UserError(
                f"--data: the model takes {' and '.join(features)}, and {info.origin or 'the source'} has "
                f"{', '.join(info.features)}."
            )
    for k, name in enumerate(names):
        try:
            example = source.example(tf.constant(k, tf.int64))
            yield name, {feature: example[there].numpy() for feature, there in own.items()}
        except tf.errors.OpError as error:
            yield name, f"it cannot be read ({type(error).__name__})"


def answer_asked(servable: Servable, asked: Iterable[Asked], *, total: int, console: Console) -> Iterator[FileAnswer]:
    """Yields the answer to each example, in order.

    Args:
        servable: the model.
        asked: the examples.
        total: how many they are.
        console: shows progress.
    """
    waiting = iter(asked)
    with console.track("Answering", total=total, unit="examples") as track:
        while part := list(itertools.islice(waiting, BATCH_SIZE)):
            yield from answer_batch(servable, part)
            track.advance(len(part))


_TABLES = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
}


def _table(file: Path, features: Sequence[str]) -> DataSource:
    source = registry.find("data", _TABLES[file.suffix.lower()])
    columns = dict(zip(("text", "text_pair"), features, strict=False)) if "question" in features else {}
    return source(str(file), source.Config(label=("none",), **columns))


def _of_lines(file: Path, features: Sequence[str]) -> Iterator[Asked]:
    for number, line in enumerate(lines(file), 1):
        text = line.rstrip("\r\n")
        texts = [part.strip() for part in text.split(SEPARATOR)] if len(features) > 1 else [text]
        if not text.strip():
            continue
        if len(texts) != len(features):
            wanted = f" {SEPARATOR} ".join(features)
            raise UserError(f"{file}:{number} has {len(texts)} texts, and the model takes {len(features)}: {wanted}.")
        yield f"{file}:{number}", {name: part.encode() for name, part in zip(features, texts, strict=True)}


def _of_squad(file: Path) -> Iterator[Asked]:
    """Yields the questions of a file of SQuAD by their ids; it need not have answers."""
    value: Any = json_value(file)
    try:
        paragraphs = [paragraph for article in value["data"] for paragraph in article["paragraphs"]]
        asked = [(one, paragraph["context"]) for paragraph in paragraphs for one in paragraph["qas"]]
        yield from (
            (str(one["id"]), {"question": one["question"].encode(), "context": context.encode()})
            for one, context in asked
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} is not in the format of SQuAD: data, paragraphs, context and qas with id and question."
        ) from error
