"""What the model says about the examples that a student learns from: computed once, kept on disk."""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfpt.compression._matching import TEACHER_FEATURES
from tfpt.compression._subject import Subject
from tfpt.compression.distill import TEACHER
from tfpt.console import Console
from tfpt.data import DataSource, Index, Info
from tfpt.errors import UserError
from tfpt.serving.servable import DESCRIPTION, EXTRA
from tfpt.training.pipeline import evaluation_batches
from tfpt.training.plan import evaluation_plan
from tfpt.weights.home import home

if TYPE_CHECKING:
    from tfpt.training.setting import Setting

BATCH = 32
_BLOCK = 1 << 20


class TaughtSource(DataSource):
    """A source whose examples also hold what a teacher says.

    Args:
        source: the data.
        tables: feature -> `[examples, width]` float32.
    """

    def __init__(self, source: DataSource, tables: Mapping[str, np.ndarray]) -> None:
        super().__init__(source.argument, source.config)
        self.source = source
        with tf.device("CPU:0"):
            self.tables = {name: tf.constant(table) for name, table in tables.items()}

    def info(self) -> Info:
        """Returns the source's info."""
        return self.source.info()

    def index(self) -> Index:
        """Returns the source's table."""
        return self.source.index()

    def digests(self) -> Any:
        """Returns the source's digests."""
        return self.source.digests()

    def example(self, k: Any) -> dict[str, Any]:
        """Returns the source's example with the teacher's features."""
        return {**self.source.example(k), **{name: table[k] for name, table in self.tables.items()}}


def answers_of(subject: Subject, setting: "Setting", *, features: bool, console: Console) -> dict[str, np.ndarray]:
    """Returns what the model says of the training and validation examples of a run; zeros for all others.

    Args:
        subject: the teacher.
        setting: of the student's run, on the same data.
        features: whether its pooled features are wanted, too.
        console: shows progress.

    Returns:
        By feature of an example, `[examples, width]` float32: the outputs, classes in the student's order, and the pooled
        features less their mean over the training examples.

    Raises:
        UserError: the student learns other classes.
    """
    splits = setting.splits
    examples = np.sort(np.concatenate([splits.train, splits.validation]))
    order = _order(subject, setting) if "classes" in setting.state else None
    wanted = [TEACHER, *[TEACHER_FEATURES] * features]
    key = _key(subject, setting, examples)
    files = {name: home() / "teachers" / f"{key}-{name}.npy" for name in wanted}
    if missing := [name for name, file in files.items() if not file.is_file()]:
        for name, values in _computed(subject, examples, missing, console=console).items():
            _keep(values, files[name])
    tables = {}
    for name, file in files.items():
        found = np.load(file, allow_pickle=False)
        tables[name] = np.zeros((len(setting.index.names), found.shape[1]), np.float32)
        tables[name][examples] = found
    if order:
        tables[TEACHER] = tables[TEACHER][:, order]
    if features:
        tables[TEACHER_FEATURES] -= tables[TEACHER_FEATURES][splits.train].mean(axis=0)
    return tables


def _computed(
    subject: Subject, examples: np.ndarray, wanted: Sequence[str], *, console: Console
) -> dict[str, np.ndarray]:
    servable = subject.servable
    ways: dict[str, Callable[[Any], Any]] = {TEACHER: servable.outputs}
    if TEACHER_FEATURES in wanted:
        trunk = tf.saved_model.load(str(subject.bundle / EXTRA / "trunk"))
        ways[TEACHER_FEATURES] = lambda inputs: trunk(inputs, training=False)["pooled"]
    rows = evaluation_plan(examples, batch_size=min(BATCH, len(examples)))
    batches = evaluation_batches(subject.prepared, rows, task=servable.task, state=servable.state)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    with console.track("The teacher answers", total=len(examples), unit="examples") as track:
        for row, batch in zip(rows, batches, strict=True):
            real = row >= 0  # the others only fill the last batch
            for name in wanted:
                parts[name].append(ways[name](batch["inputs"]).numpy()[real])
            track.advance(int(real.sum()))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _keep(values: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{uuid.uuid4().hex}.tmp")
    with partial.open("wb") as writing:
        np.save(writing, values)
    partial.replace(file)


def _order(subject: Subject, setting: "Setting") -> list[int]:
    theirs, ours = list(subject.servable.state["classes"]), list(setting.state["classes"])
    if sorted(theirs) != sorted(ours):
        raise UserError(
            f"--model={subject.bundle} knows the classes {', '.join(theirs)}, and the data has {', '.join(ours)}."
        )
    return [theirs.index(name) for name in ours]


def _key(subject: Subject, setting: "Setting", examples: np.ndarray) -> str:
    """Returns a name that is another for another model, other examples, and another order of them."""
    digest = hashlib.sha256()
    for file in (subject.bundle / "saved_model.pb", *sorted((subject.bundle / "variables").iterdir())):
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
    digest.update((subject.bundle / EXTRA / DESCRIPTION).read_bytes())
    digest.update(json.dumps([setting.digests[k].hex() for k in examples]).encode())
    return digest.hexdigest()[:32]
