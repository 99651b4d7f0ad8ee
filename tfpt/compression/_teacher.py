"""What the model says about the examples that a student learns from: computed once, kept on disk."""

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

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
    """A source whose examples also hold a teacher's outputs.

    Args:
        source: the data.
        outputs: `[examples, width]` float32.
    """

    def __init__(self, source: DataSource, outputs: np.ndarray) -> None:
        super().__init__(source.argument, source.config)
        self.source = source
        with tf.device("CPU:0"):
            self.outputs = tf.constant(outputs)

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
        """Returns the source's example with the teacher's outputs."""
        return {**self.source.example(k), TEACHER: self.outputs[k]}


def outputs_of(subject: Subject, setting: "Setting", *, console: Console) -> np.ndarray:
    """Returns the model's outputs for the training and validation examples of a run; zeros for all others.

    Args:
        subject: the teacher.
        setting: of the student's run, on the same data.
        console: shows progress.

    Returns:
        `[examples, width]` float32, classes in the student's order.

    Raises:
        UserError: the student learns other classes.
    """
    examples = np.sort(np.concatenate([setting.splits.train, setting.splits.validation]))
    file = home() / "teachers" / f"{_key(subject, setting, examples)}.npy"
    if file.is_file():
        found = np.load(file, allow_pickle=False)
    else:
        found = _computed(subject, examples, console=console)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{uuid.uuid4().hex}.tmp")
        with partial.open("wb") as writing:
            np.save(writing, found)
        partial.replace(file)
    table = np.zeros((len(setting.index.names), found.shape[1]), np.float32)
    table[examples] = found
    return table[:, _order(subject, setting)] if "classes" in setting.state else table


def _computed(subject: Subject, examples: np.ndarray, *, console: Console) -> np.ndarray:
    servable = subject.servable
    rows = evaluation_plan(examples, batch_size=min(BATCH, len(examples)))
    batches = evaluation_batches(subject.prepared, rows, task=servable.task, state=servable.state)
    parts = []
    with console.track("The teacher answers", total=len(examples), unit="examples") as track:
        for row, batch in zip(rows, batches, strict=True):
            real = row >= 0  # the others only fill the last batch
            parts.append(servable.outputs(batch["inputs"]).numpy()[real])
            track.advance(int(real.sum()))
    return np.concatenate(parts)


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
