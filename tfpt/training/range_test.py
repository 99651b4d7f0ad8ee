"""The learning-rate range test: the loss while the learning rate grows from step to step.

Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import init_from, lora
from tfpt.training.assembly import assemble, seeded
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.fit import keep_prepared
from tfpt.training.loop import Hooks, Stage, compiled_steps
from tfpt.training.recipe import ADAPTERS
from tfpt.training.run_folder import RunFolder
from tfpt.training.schedules import Rise
from tfpt.training.setting import Setting
from tfpt.training.stages import Training
from tfpt.training.updates import Updates

DIVERGED = 4.0
"""The test ends when the loss is so many times the lowest."""
_SMOOTHED_OVER = 0.05
"""Width of the smoothing, as a share of the steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """What the test found.

    Attributes:
        stage: that was tested, `head` or `fine_tune`.
        rates: `[steps]`, learning rates.
        losses: `[steps]`, of each batch before its update.
        smoothed: `[steps]`, the losses without their noise.
        steepest: the learning rate at which the loss falls fastest: a good one to train with.
        lowest: where the smoothed loss is lowest: already too high.
    """

    stage: str
    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    lowest: float

    @property
    def flag(self) -> str:
        """The flag that the learning rate is for."""
        return "optim.head_learning_rate" if self.stage == "head" else "optim.learning_rate"


def range_test(setting: Setting, *, stage: str, lowest: float, highest: float, steps: int, console: Console) -> Range:
    """Trains a stage for a few steps at growing learning rates; for `fine_tune` the head is trained first, as in a run.

    Args:
        setting: the experiment's.
        stage: `head`, `fine_tune`, or `auto`: the second where there is one.
        lowest: learning rate of the first step.
        highest: of the last.
        steps: how many.
        console: talks to the user.

    Raises:
        UserError: the experiment has no such stage, or the loss does not fall.
    """
    experiment = setting.experiment
    precision = "float32" if experiment.train.precision == "auto" else experiment.train.precision
    assembly = assemble(
        setting.task,
        setting.state,
        setting.backbones,
        setting.preprocessors,
        precision=precision,
        seed=experiment.train.seed,
    )
    if setting.head:
        setting.head.load(assembly.model)
    with tempfile.TemporaryDirectory() as folder:
        keep_prepared(setting, RunFolder(Path(folder)), console=console)  # batches go by what is known of the examples
        training = Training(
            experiment=experiment,
            task=setting.task,
            state=setting.state,
            assembly=assembly,
            prepared=setting.prepared,
            train=setting.splits.train,
            validation=setting.splits.validation,
            ops=setting.ops,
            precision=precision,
            saver=Checkpoints(Path(folder), keep=1),
            console=console,
            hooks=Hooks(begin=_ignore, row=_ignore, status=_ignore, failed=_ignore),
            labels=setting.index.labels,
            digests=setting.digests,
        )
        head, *later = training.parts()
        if stage == "fine_tune" and not later:
            raise UserError("--find_lr.stage=fine_tune: with these flags the head alone trains; write head.")
        part = later[-1] if later and stage != "head" else head
        options = experiment.train
        if part is not head and options.head_epochs:
            alone = dataclasses.replace(options, epochs=0, steps=0, unfreeze="all", lora_rank=0)
            dataclasses.replace(training, experiment=dataclasses.replace(experiment, train=alone)).run()
        elif options.init_from:
            init_from.load(assembly, setting.state, options.init_from, console=console)
        if part.unfreeze == ADAPTERS:
            with seeded(options.seed):
                lora.add(assembly.trunks, options, console=console)
        made, _ = training.make_stage(part, steps)
        rise = Rise(peak=highest, steps=steps, span=highest / lowest)
        updates = Updates(
            made.updates.groups,
            experiment.optim,
            learning_rate=highest,
            steps=steps,
            loss_scaling=precision == "float16",
            schedule=rise,
        )
        losses = _losses(made, updates, steps, accumulate=options.accumulate, console=console)
    rates = np.array([float(rise(step)) for step in range(len(losses))])
    return _found("head" if part.frozen else "fine_tune", rates, losses)


def _losses(stage: Stage, updates: Updates, steps: int, *, accumulate: int, console: Console) -> np.ndarray:
    """Returns the loss of each step, up to where it diverges."""

    def rows() -> Iterator[tuple[int, np.ndarray]]:
        for epoch in itertools.count():
            for row in stage.plan.rows(epoch):
                yield epoch, row

    call = compiled_steps(stage.task, stage.model, updates, None, accumulate=accumulate)
    iterator = iter(stage.batches(rows))
    found: list[float] = []
    with console.track("Raising the learning rate", total=steps, unit="steps") as track:
        for _ in range(steps):
            loss, weight, *_ = (t.numpy() for t in call(iterator, tf.constant(1)))
            found.append(float(loss[0]) / max(float(weight[0]), 1e-12))
            track.advance(1)
            recent = np.mean(found[-3:])  # of one batch it may be high by chance
            if not np.isfinite(recent) or (len(found) > 3 and recent > DIVERGED * _smoothed(np.array(found)).min()):
                break
    return np.array(found)


def _found(stage: str, rates: np.ndarray, losses: np.ndarray) -> Range:
    finite = np.isfinite(losses)
    rates, losses = rates[finite], losses[finite]
    smoothed = _smoothed(losses)
    low = int(smoothed.argmin())
    if low < 2:
        raise UserError(
            f"The loss does not fall between a learning rate of {rates[0]:.1e} and {rates[-1]:.1e}: lower --find_lr.lowest, or look at "
            "the data."
        )
    slopes = np.gradient(smoothed[: low + 1], np.log(rates[: low + 1]))
    return Range(
        stage=stage,
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        steepest=float(rates[slopes.argmin()]),
        lowest=float(rates[low]),
    )


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """Returns the losses averaged with their neighbours, by a Gaussian in the number of steps."""
    places = np.arange(len(losses))
    width = max(1.0, _SMOOTHED_OVER * len(losses))
    weights = np.exp(-0.5 * ((places[:, np.newaxis] - places) / width) ** 2)
    return weights @ losses / weights.sum(axis=1)


def _ignore(_: object) -> None:
    """Nothing is reported of what is thrown away."""
