"""A run that was made: its results, its model, what it shows in a notebook."""

import dataclasses
import functools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.data._tiff import for_model
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from tfpt.serving.servable import Servable

_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder: metrics.json, report.html, predictions.csv and the rest.
        experiment: its settings.
        metrics: what metrics.json holds.
        history: the rows of metrics.jsonl.
        model_folder: the published version folder; None when nothing was published.
        interrupted: whether it was stopped in a notebook before its end; `fit` with the same settings goes on with it.
    """

    folder: Path
    experiment: Experiment
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    model_folder: Path | None
    interrupted: bool = False

    def _repr_html_(self) -> str:
        """What a notebook shows: numbers, curves and the confusion matrix."""
        from tfpt.evaluation import inline

        note = (
            "Interrupted: run the cell again to go on."
            if self.interrupted
            else f"The report is {self.folder / 'report.html'}"
        )
        return inline.page(self.experiment.output.name, self.metrics, self.history, note=note)

    def _published(self) -> Path:
        if self.interrupted:
            raise UserError(
                "The run was interrupted, so there is no model yet; fit with the same settings goes on with it."
            )
        if self.model_folder is None and self.metrics.get("folds"):
            raise UserError("Cross-validation publishes no model; fit with the same settings without folds trains one.")
        if self.model_folder is None:
            raise UserError("The run published no model: --export.publish was false.")
        return self.model_folder

    @functools.cached_property
    def model(self) -> "Servable":
        """The published model, loaded when it is first asked for."""
        from tfpt.serving.servable import Servable

        task = self.experiment.task.instance
        return Servable.load(self._published(), trust=_own_packages(self.experiment), task=task)

    def predict(self, examples: Any) -> dict[str, "np.ndarray"]:
        """Answers raw examples.

        Args:
            examples: a list of texts, or, for pictures, of paths or the files' bytes; where the model reads several features (two
                texts, a question and its context), of tuples in that order or dictionaries by feature. A DataFrame with a
                column a feature, or with one column, is such a list, and so is a Series.

        Returns:
            The decoded answer by name, `[examples, ...]` each.

        Raises:
            UserError: one cannot be read or decoded; `tfpt predict` answers the others all the same.
        """
        import tensorflow as tf

        from tfpt.preprocessors.image import Image
        from tfpt.serving.padding import concatenated

        if hasattr(examples, "columns"):
            examples = examples.to_dict("records")
        elif hasattr(examples, "to_list"):
            examples = examples.to_list()
        if isinstance(examples, str | bytes | Path | Mapping) or not len(examples):
            raise UserError("predict takes a list of texts, paths or bytes with at least one entry.")
        model = self.model
        features = list(dict.fromkeys(name for p in model.preprocessors.values() for name in p.raw_features))
        pictures = any(isinstance(p, Image) for p in model.preprocessors.values())
        raw = [_raw_values(example, features, number, files=pictures) for number, example in enumerate(examples)]
        answers = []
        for start in range(0, len(raw), _BATCH_SIZE):
            part = raw[start : start + _BATCH_SIZE]
            try:
                answers.append(_answered(model, part))
            except tf.errors.OpError:  # one of them does not decode: find out which
                for number, values in enumerate(part, start):
                    try:
                        answers.append(_answered(model, [values]))
                    except tf.errors.OpError as error:
                        example = examples[number]
                        name = f"example {number}" if isinstance(example, bytes) else str(example)
                        raise UserError(f"{name} cannot be decoded.") from error
        return {name: concatenated([answer[name] for answer in answers]) for name in answers[0]}

    def export(self, folder: str | Path) -> Path:
        """Copies the published model into a folder of its own.

        Raises:
            UserError: the folder exists, or cannot be written.
        """
        published = self._published()
        try:
            shutil.copytree(published, folder)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror or 'it exists'}); give a new folder."
            ) from error
        return Path(folder)


def _answered(model: "Servable", raw: Sequence[Mapping[str, bytes]]) -> dict[str, "np.ndarray"]:
    return model.predict({name: [values[name] for values in raw] for name in raw[0]})


def load(folder: str | Path) -> Run:
    """Returns the finished run of a run folder.

    Raises:
        UserError: the folder holds none.
    """
    from tfpt import flags
    from tfpt.training.run_folder import RunFolder

    folder = Path(folder)
    if not RunFolder(folder).is_finished():
        raise UserError(f"{folder} holds no finished run; give its run folder, such as runs/NAME.")
    return load_run(folder, flags.read_experiment(folder / "experiment.flags"))


def _raw_values(example: Any, features: Sequence[str], number: int, *, files: bool) -> dict[str, bytes]:
    """Returns an example's raw values by feature; a string is the path of a file, or the text itself."""
    if not isinstance(example, Mapping):
        parts = example if isinstance(example, tuple | list) else (example,)
        example = dict(zip(features, parts, strict=False)) if len(parts) == len(features) else {}
    if len(features) == len(example) == 1:  # a table with one column, whatever it is called
        example = dict(zip(features, example.values(), strict=True))
    missing = [name for name in features if name not in example]
    if missing:
        raise UserError(
            f"example {number}: the model reads {', '.join(features)}; give a tuple of {len(features)}, or a dictionary."
            if len(features) > 1
            else f"example {number}: the model reads one value, {features[0]}."
        )
    found = {}
    for name in features:
        value = example[name]
        if isinstance(value, Path) or (files and isinstance(value, str)):
            try:
                value = for_model(Path(value).read_bytes())
            except OSError as error:
                raise UserError(f"{value} cannot be read: {error.strerror or error}.") from error
        found[name] = value if isinstance(value, bytes) else str(value).encode()
    return found


def tell(run: Run, console: Console) -> None:
    """Says what a run came to, what to be careful with, and where its results are.

    A worker that only helped has nothing to say.
    """
    from tfpt.evaluation.cautions import cautions

    if not run.metrics:
        return
    split = "test" if "test" in run.metrics else "validation"
    seeds_of_run, folds_of_run = run.metrics.get("seeds", []), run.metrics.get("folds", 0)
    inside, ends = "", "95 %"
    if folds_of_run:
        inside, ends = "fold-*/", f"range over {folds_of_run} folds"
    elif seeds_of_run:
        inside, ends = "seed-*/", f"range over seeds {', '.join(map(str, seeds_of_run))}"
    for name, found in run.metrics.get(split, {}).items():
        interval = "" if found["low"] is None else f"  ({ends}: {found['low']:.4f} to {found['high']:.4f})"
        value = "not defined on these examples" if found["value"] is None else f"{found['value']:.4f}"
        console.say(f"{split} {name:<16} {value}{interval}")
    for sentence in cautions(run.metrics):
        console.warn(sentence)
    console.say(f"report  {run.folder / f'{inside}report.html'}")
    if run.model_folder:
        console.say(f"model   {run.model_folder}")


def numbers(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns metric -> value of a split in metrics.json; NaN for what is null there."""
    return {name: math.nan if found["value"] is None else found["value"] for name, found in measured.items()}


def load_run(folder: Path, experiment: Experiment) -> Run:
    """Returns the run that a folder holds.

    Raises:
        UserError: its results are damaged or gone.
    """
    from tfpt.training.run_folder import RunFolder

    status = RunFolder(folder).status() or {}
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        history = RunFolder(folder).history()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--output.run_dir={folder} holds a finished run whose metrics.json or metrics.jsonl is damaged or gone; choose "
            "another --output.name, or remove the folder."
        ) from error
    return Run(
        folder=folder,
        experiment=experiment,
        metrics=metrics,
        history=history,
        model_folder=Path(status["model"]) if status.get("model") else None,
    )


def _own_packages(experiment: Experiment) -> list[str]:
    """Returns the packages outside tfpt that the experiment itself takes components from."""
    components = [experiment.task, experiment.data, *experiment.backbone.values()]
    modules = [c.name if c.instance is None else type(c.instance).__module__ for c in components]
    return [module.split(".")[0] for module in modules]
