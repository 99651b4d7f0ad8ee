"""Scores a servable on examples: statistics and answers of every example, each exactly once."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.serving.padding import concatenated
from tfpt.serving.servable import Servable
from tfpt.training.assembly import Assembly, copy_variables, seeded
from tfpt.training.feature_cache import FeatureCache
from tfpt.training.memory import FittingBatches
from tfpt.training.pipeline import Prepared, evaluation_batches
from tfpt.training.plan import evaluation_plan
from tfpt.training.prefix import Cut, cut_trunks

BATCH_SIZE = 32
BATCH_SIZE_OF_FEATURES = 256
"""Where the trunks have run already."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """What a servable said.

    Attributes:
        examples: `[examples]` int64, those that could be decoded, in the order of the plan.
        statistics: of the task, finished, `[examples, ...]` each.
        kept: those of the answers that the task's `kept_answers` names, `[examples, ...]` each.
        chosen: `[chosen]`, positions in `examples` whose whole answers are kept, in order.
        answers: decoded, `[chosen, ...]` each: what a client would read.
        batch_size: at which the whole model can be asked for them.
    """

    examples: np.ndarray
    statistics: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]
    chosen: np.ndarray
    answers: dict[str, np.ndarray]
    batch_size: int


def score(
    servable: Servable,
    prepared: Prepared,
    examples: np.ndarray,
    *,
    console: Console,
    what: str,
    whole: Collection[int] = (),
    features: FeatureCache | None = None,
) -> Scores:
    """Scores a servable on examples.

    Args:
        servable: the model.
        prepared: the data; examples that cannot be decoded are added to `prepared.failed`.
        examples: `[examples]` int64, not empty.
        console: shows progress.
        what: the progress line's words.
        whole: examples whose whole answers are kept, for the parity proof.
        features: makes, or finds, what the model's trunks make of examples; None where they must run.
    """
    task, state = servable.task, servable.state
    good = examples[~np.isin(examples, sorted(prepared.failed))]
    kept = features.exact(good) if features and len(good) else None
    good = good[~np.isin(good, sorted(prepared.failed))]
    if features and kept and len(good):
        examples, answer = good, _head(servable, features.cuts)
    else:
        kept, answer = None, servable.outputs
    size = min(BATCH_SIZE_OF_FEATURES if kept and kept.small else BATCH_SIZE, len(examples))
    rows = evaluation_plan(examples, batch_size=size, lengths=prepared.lengths)
    batches = kept.evaluation_batches(rows) if kept else evaluation_batches(prepared, rows, task=task, state=state)

    def step(batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        outputs = answer(batch["inputs"])
        return task.statistics(outputs, batch, state), task.decode(outputs, batch["frame"], state)

    fitting = FittingBatches(step, batches.element_spec, what=f"{what[:1].lower()}{what[1:]}")
    wanted = np.array(sorted(whole), np.int64)
    found: list[np.ndarray] = []
    gathered: list[dict[str, dict[str, np.ndarray]]] = []
    with console.track(what, total=len(examples), unit="examples") as track:
        for done, (_, parts) in enumerate(fitting.over(batches, console)):
            for part, (statistics, answers) in parts:
                counts = part["weight"].numpy() > 0
                k = part["example"].numpy()
                prepared.failed.update(int(i) for i in k[~part["ok"].numpy()])
                asked = counts & np.isin(k, wanted)
                found.append(k[counts])
                gathered.append(
                    {
                        "statistics": {name: value.numpy()[counts] for name, value in statistics.items()},
                        "kept": {name: answers[name].numpy()[counts] for name in task.kept_answers if name in answers},
                        "answers": {name: tf.boolean_mask(value, asked).numpy() for name, value in answers.items()},
                    }
                )
            track.advance(min(rows.shape[1], len(examples) - done * rows.shape[1]))
    together = {
        part: {name: concatenated([g[part][name] for g in gathered]) for name in gathered[0][part]}
        for part in ("statistics", "kept", "answers")
    }
    scored = np.concatenate(found)
    return Scores(
        examples=scored,
        statistics=dict(task.finish_statistics(together["statistics"], state)),
        kept=together["kept"],
        chosen=np.flatnonzero(np.isin(scored, wanted)),
        answers=together["answers"],
        batch_size=min(fitting.largest or BATCH_SIZE, BATCH_SIZE, len(examples)),
    )


def _head(servable: Servable, cuts: Mapping[str, Cut]) -> Callable[[Any], Any]:
    """Returns what is behind the cuts of a model that was built here: from what is at them to the model's outputs."""
    task, state, model = servable.task, servable.state, servable.model
    assert model is not None, "a loaded model has no cuts"
    with seeded(0):
        head = task.build(cut_trunks(cuts, recompute=False), state)
    whole = Assembly(model=model, trunks=dict(servable.trunks), backbones={})
    copy_variables(whole.head_variables(), head.variables)
    return lambda inputs: task.predict(head, inputs)
