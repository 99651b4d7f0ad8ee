"""data.json: what a run was trained on; a run goes on only with the same data in the same splits."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpt.data import Index, Info
from tfpt.data._content import content_hash
from tfpt.errors import UserError
from tfpt.training.splits import Splits

FILE = "data.json"
LABELS = "labels_sha256"
"""The record's entry with a digest of what is true of all examples, and of the classes' names."""


def describe(
    data: str, info: Info, index: Index, digests: Sequence[bytes], splits: Splits, notes: Sequence[str]
) -> dict[str, Any]:
    """Returns counts, classes and digests of the data and each split."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    classes = {}
    if index.labels is not None:
        for name, examples in parts.items():
            counts = np.bincount(index.labels[examples], minlength=len(info.classes))
            classes[name] = {c: int(n) for c, n in zip(info.classes, counts, strict=True)}
    return {
        "data": data,
        "origin": info.origin,
        "examples": {name: len(examples) for name, examples in parts.items()},
        "left_out": {name: len(examples) for name, examples in zip(parts, splits.left_out, strict=True)},
        "classes": classes,
        "class_names": list(info.classes),
        "sha256": {name: _digest(index, digests, examples) for name, examples in parts.items()},
        LABELS: hashlib.sha256(b"".join(labels_of(info, index))).hexdigest(),
        "notes": list(notes),
    }


def check_same(folder: Path, now: dict[str, Any]) -> None:
    """Refuses to go on with other data than the run in this folder has begun to learn from.

    Raises:
        UserError: it says how many examples there were and are.
    """
    if not any(folder.glob("checkpoints/[!.]*-*")):
        return  # nothing was learned yet, so the data may still be mended
    try:
        before = json.loads((folder / FILE).read_text(encoding="utf-8", errors="surrogateescape"))
        same = before["sha256"] == now["sha256"]
        if same and before.get(LABELS, now[LABELS]) == now[LABELS]:  # an older record has none
            return
        counts = [", ".join(f"{n} {name}" for name, n in found["examples"].items()) for found in (before, now)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / FILE} is damaged, so what the run has learned from is not known; choose another --output.name."
        ) from error
    if same:
        changed = "the same examples, with other labels, names of classes, or examples that are left out"
    else:
        changed = f"{counts[0]} then, {counts[1]} now" if counts[0] != counts[1] else "the same number of others"
    raise UserError(
        f"--data={now['data']} is not what the run in {folder} was trained on ({changed}); restore it, pin the split with "
        f"--input.splits={folder / 'splits.csv'} under another --output.name, or start anew with --output.if_exists=new."
    )


def labels_of(info: Info, index: Index) -> list[bytes]:
    """Returns the names of the classes, and then what is true of each example: its class, classes, numbers, tags or answers."""
    found = [b"".join(content_hash(name.encode(errors="replace")) for name in info.classes)]
    columns: list[Sequence[bytes]] = []
    if index.labels is not None:
        columns.append([label.tobytes() for label in np.asarray(index.labels).astype("<i8")])
    if index.held is not None:
        columns.append([row.tobytes() for row in np.packbits(index.held, axis=1)])
    if index.truth is not None:
        columns.append(index.truth)
    return found + [content_hash(*row) for row in zip(*columns, strict=True)]


def _digest(index: Index, digests: Sequence[bytes], examples: np.ndarray) -> str:
    """Returns a digest of the contents and labels of examples in their order, which the plan depends on."""
    whole = hashlib.sha256()
    for k in examples:
        whole.update(digests[int(k)])
    if index.labels is not None:
        whole.update(np.asarray(index.labels)[examples].astype("<i8").tobytes())
    return whole.hexdigest()
