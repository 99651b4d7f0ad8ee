"""Scores a servable on examples: statistics and answers of every example, each exactly once."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.serving.servable import Servable
from tfpt.training.pipeline import Prepared, evaluation_batches
from tfpt.training.plan import evaluation_plan

BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """What a servable said.

    Attributes:
        examples: `[examples]` int64, those that could be decoded, in the order of the plan.
        statistics: of the task, `[examples, ...]` each.
        answers: decoded, `[examples, ...]` each: what a client would read.
        batch_size: of the pass.
    """

    examples: np.ndarray
    statistics: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    batch_size: int


def score(servable: Servable, prepared: Prepared, examples: np.ndarray, *, console: Console, what: str) -> Scores:
    """Scores a servable on examples.

    Args:
        servable: the model.
        prepared: the data; examples that cannot be decoded are added to `prepared.failed`.
        examples: `[examples]` int64, not empty.
        console: shows progress.
        what: the progress line's words.
    """
    rows = evaluation_plan(examples, batch_size=min(BATCH_SIZE, len(examples)), lengths=prepared.lengths)

    @tf.function(autograph=False)
    def step(batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        outputs = servable.outputs(batch["inputs"])
        return servable.task.statistics(outputs, batch), servable.task.decode(outputs, batch["frame"], servable.state)

    kept: list[tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    with console.track(what, total=len(examples), unit="examples") as track:
        for batch in evaluation_batches(prepared, rows, task=servable.task, state=servable.state):
            counts = batch["weight"].numpy() > 0
            prepared.failed.update(int(k) for k in batch["example"].numpy()[~batch["ok"].numpy()])
            statistics, answers = (
                {name: value.numpy()[counts] for name, value in values.items()} for values in step(batch)
            )
            kept.append((batch["example"].numpy()[counts], statistics, answers))
            track.advance(min(rows.shape[1], len(examples) - (len(kept) - 1) * rows.shape[1]))
    return Scores(
        examples=np.concatenate([part[0] for part in kept]),
        statistics={name: np.concatenate([part[1][name] for part in kept]) for name in kept[0][1]},
        answers={name: np.concatenate([part[2][name] for part in kept]) for name in kept[0][2]},
        batch_size=rows.shape[1],
    )
