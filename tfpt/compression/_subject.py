"""The model that is made smaller, with the data that it was trained on."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpt import flagfile, flags, registry
from tfpt.config import Component, Experiment, split_trunks
from tfpt.console import Console
from tfpt.cores import cores
from tfpt.data import DataSource
from tfpt.errors import UserError
from tfpt.preprocessors import distinct
from tfpt.serving.servable import EXTRA, INPUTS, Servable, newest_version
from tfpt.training.alignment import aligned
from tfpt.training.pipeline import evaluation_batches
from tfpt.training.plan import evaluation_plan
from tfpt.training.prepared import Prepared
from tfpt.training.splits import Splits, split
from tfpt.weights.fetch import fetch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A bundle and its data.

    Attributes:
        bundle: the version folder.
        servable: loaded from it.
        experiment: that made it.
        source: its data, with the model's classes.
        splits: as in the run that made it.
        prepared: its examples.
    """

    bundle: Path
    servable: Servable
    experiment: Experiment
    source: DataSource
    splits: Splits
    prepared: Prepared

    @property
    def measured(self) -> tuple[str, np.ndarray]:
        """The split that the model is measured on: test, or validation where there is no test split."""
        name = "test" if len(self.splits.test) else "validation"
        return name, getattr(self.splits, name)

    @property
    def name(self) -> str:
        """The folder of versions that the model stands in."""
        folder = self.bundle.resolve()
        return folder.parent.name if folder.name.isdigit() else folder.name

    def answered_by(self, servable: Servable) -> "Subject":
        """Returns the same data with another model, which may want it prepared otherwise."""
        prepared = Prepared(self.source, distinct(servable.preprocessors), threads=self.prepared.threads)
        return dataclasses.replace(self, servable=servable, prepared=prepared)

    def batches(self, examples: np.ndarray, *, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the model's inputs by name; examples that cannot be decoded are left out."""
        rows = evaluation_plan(np.asarray(examples), batch_size=min(batch_size, len(examples)))
        for batch in evaluation_batches(self.prepared, rows, task=self.servable.task, state=self.servable.state):
            good = batch["weight"].numpy() > 0
            inputs = batch["inputs"] if isinstance(batch["inputs"], dict) else {INPUTS: batch["inputs"]}
            if good.any():
                yield {name: value.numpy()[good] for name, value in inputs.items()}


def load(model: str, *, data: Component | None, trust: Sequence[str], offline: bool, console: Console) -> Subject:
    """Loads a bundle and finds its data.

    Args:
        model: `--model`.
        data: where the data is now, if it has moved.
        trust: packages outside tfpt whose components may be imported.
        offline: never use the network.
        console: talks to the user.

    Raises:
        UserError: there is no such bundle, or its data is not there.
    """
    bundle = newest_version(Path(model))
    file = bundle / EXTRA / "experiment.flags"
    if not file.is_file():
        raise UserError(
            f"--model={bundle} does not say what it was trained on (it has no {EXTRA}/experiment.flags); give a model that `tfpt "
            "train` exported."
        )
    _check_trusted(file, trust)
    servable = Servable.load(bundle, trust=trust)
    experiment = flags.read_experiment(file)
    if data is not None:
        experiment = dataclasses.replace(experiment, data=data)
    source = experiment.data.make()
    for needed in source.data_files():
        fetch(needed, offline=offline, console=console)
    source = aligned(source, servable.state, data=str(experiment.data))
    splits = split(source.index(), source.digests(), experiment.input, classes=source.info().classes)
    if not len(splits.test) and not len(splits.validation):
        raise UserError(
            f"--model={bundle} was trained without a test and a validation split; there is nothing to measure it on."
        )
    threads = experiment.runtime.threads or cores()
    return Subject(
        bundle=bundle,
        servable=servable,
        experiment=experiment,
        source=source,
        splits=splits,
        prepared=Prepared(source, distinct(servable.preprocessors), threads=threads),
    )


def _check_trusted(file: Path, trust: Sequence[str]) -> None:
    rows: dict[str, Any] = flagfile.read(file)
    named = [(kind, rows[kind].value or "") for kind in ("task", "data")]
    named += [("backbone", text) for text in split_trunks(rows["backbone"].value or "").values()]
    for kind, text in named:
        package = registry.split_reference(text)[0].rpartition(".")[0].partition(".")[0]
        if package and package not in trust:
            raise UserError(f"{file} names the {kind} {text} from outside tfpt; add --trust={package} if you trust it.")
