"""One experiment from beginning to end: train, measure, prove, publish, report."""

import builtins
import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import keywords, record, seeds, startup
from tfpt.backbones import Backbone
from tfpt.config import DEFAULT_TRUNK, Component, Experiment
from tfpt.console import Console
from tfpt.data import DataSource
from tfpt.errors import Preempted, UserError
from tfpt.evaluation.environment import environment
from tfpt.publish import publish
from tfpt.tasks import Task
from tfpt.weights.fetch import fetch

if TYPE_CHECKING:
    import numpy as np

    from tfpt.serving.servable import Servable
    from tfpt.training.run_folder import RunFolder
    from tfpt.training.setting import Setting


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
        if self.model_folder is None:
            raise UserError("The run published no model: --export.publish was false.")
        return self.model_folder

    @property
    def model(self) -> "Servable":
        """The published model, loaded."""
        from tfpt.serving.servable import Servable

        task = self.experiment.task.instance
        return Servable.load(self._published(), trust=_own_packages(self.experiment), task=task)

    def predict(self, examples: Any) -> dict[str, "np.ndarray"]:
        """Answers raw examples.

        Args:
            examples: a list of texts, or, for pictures, of paths or the files' bytes; where the model reads several features (two
                texts, a question and its context), of tuples in that order or dictionaries by feature. A DataFrame with a
                column a feature is such a list.

        Returns:
            The decoded answer by name, `[examples, ...]` each.

        Raises:
            UserError: one cannot be read or decoded; `tfpt predict` answers the others all the same.
        """
        import tensorflow as tf

        from tfpt.preprocessors.image import Image
        from tfpt.serving.padding import concatenated

        if hasattr(examples, "to_dict"):
            examples = examples.to_dict("records")
        if isinstance(examples, str | bytes | Path | Mapping) or not len(examples):
            raise UserError("predict takes a list of texts, paths or bytes with at least one entry.")
        model = self.model
        features = list(dict.fromkeys(name for p in model.preprocessors.values() for name in p.raw_features))
        pictures = any(isinstance(p, Image) for p in model.preprocessors.values())
        answers = []
        for number, example in enumerate(examples):
            raw = _raw_values(example, features, number, files=pictures)
            try:
                answers.append(model.predict({name: [value] for name, value in raw.items()}))
            except tf.errors.OpError as error:
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


def _raw_values(example: Any, features: Sequence[str], number: int, *, files: bool) -> dict[str, bytes]:
    """Returns an example's raw values by feature; a string is the path of a file, or the text itself."""
    if not isinstance(example, Mapping):
        parts = example if isinstance(example, tuple | list) else (example,)
        example = dict(zip(features, parts, strict=False)) if len(parts) == len(features) else {}
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
                value = Path(value).read_bytes()
            except OSError as error:
                raise UserError(f"{value} cannot be read: {error.strerror or error}.") from error
        found[name] = value if isinstance(value, bytes) else str(value).encode()
    return found


def fit(*, task: Any, data: Any, backbone: Any, quiet: bool = False, **options: Any) -> Run:
    """Trains, measures and exports, as `tfpt train` does.

    In a notebook, interrupting the cell returns the run so far; the same call goes on with it.

    Args:
        task: `image_classification`, or a Task.
        data: `folder:my photos`, a DataSource, a DataFrame, arrays `(x, y)`, a tf.data.Dataset, or a dictionary of such by split.
        backbone: `efficientnet_lite:lite0`, a Backbone, a keras.Model, or a dictionary of such by trunk name.
        quiet: show nothing but warnings.
        **options: settings by their name (`epochs=2`, `learning_rate=1e-3`), or a dictionary for a group
            (`train={"epochs": 2}`).

    Raises:
        UserError: a setting or the data is not right; the sentence says what is allowed.
    """
    if not isinstance(data, str | os.PathLike | Component | DataSource):
        from tfpt.data._given import as_source

        data = as_source(data, options.pop("data_options", {}))
    for kind, given, base in (("task", task, Task), ("data", data, DataSource)):
        if not isinstance(given, str | os.PathLike | Component | base):
            raise UserError(
                f'{kind}={given!r}: write {kind}="NAME:ARGUMENT", or give an object of the class {base.__name__}.'
            )
    trunks = backbone if isinstance(backbone, Mapping) else {DEFAULT_TRUNK: backbone}
    if not all(isinstance(given, str | os.PathLike | Component | Backbone) for given in trunks.values()):
        backbone = {name: _as_backbone(given) for name, given in trunks.items()}
    experiment = keywords.experiment_from_kwargs(task=task, data=data, backbone=backbone, **options)
    try:
        return fit_experiment(experiment, console=Console(quiet=quiet))
    except KeyboardInterrupt as pressed:
        so_far = _so_far(experiment) if getattr(builtins, "__IPYTHON__", False) else None
        if so_far is None or isinstance(pressed, Preempted):
            raise
        return so_far


def _so_far(experiment: Experiment) -> Run | None:
    """Returns the interrupted run of an experiment; None where nothing was begun, or in a folder with another name."""
    from tfpt.training.run_folder import RunFolder

    folder = RunFolder(Path(experiment.output.run_dir))
    if experiment.output.if_exists == "new" or (folder.status() or {}).get("state") != "interrupted":
        return None
    return Run(
        folder=folder.path,
        experiment=experiment,
        metrics={},
        history=folder.history(),
        model_folder=None,
        interrupted=True,
    )


def fit_experiment(experiment: Experiment, *, console: Console, offline: bool = False) -> Run:
    """Trains, measures and exports one experiment, or goes on where it stopped.

    Args:
        experiment: the settings; folders that were left open get their default names.
        console: talks to the user.
        offline: never use the network.
    """
    experiment = record.output_paths(experiment)
    startup.start_tensorflow(experiment.runtime.threads)
    from tfpt.training import strategies
    from tfpt.training.follower import Follower
    from tfpt.training.run_folder import RunFolder, free_name

    together = strategies.start(experiment.runtime)
    if not together.is_chief:
        console = Console(quiet=True)
    if experiment.output.if_exists == "new":
        experiment = free_name(experiment)
    folder = (RunFolder if together.is_chief else Follower)(Path(experiment.output.run_dir))
    if folder.status() and experiment.output.if_exists == "fail":
        raise UserError(f"--output.if_exists=fail, and {folder.path} holds a run; choose another --output.name.")
    if experiment.train.seeds:
        folder.check_same(experiment)
        return seeds.fit_seeds(
            experiment,
            fit=functools.partial(fit_experiment, console=console, offline=offline),
            export=functools.partial(export_experiment, console=console, offline=offline),
            console=console,
        )
    return _go(experiment, folder, console=console, offline=offline, again=False)


def export_experiment(experiment: Experiment, *, console: Console, offline: bool = False) -> Run:
    """Measures and publishes a trained experiment again.

    Raises:
        UserError: it was not trained to its end.
    """
    experiment = record.output_paths(experiment)
    experiment = dataclasses.replace(experiment, export=dataclasses.replace(experiment.export, publish=True))
    if experiment.train.seeds:
        experiment = seeds.trained_best(experiment)
    startup.start_tensorflow(experiment.runtime.threads)
    from tfpt.training.run_folder import RunFolder

    folder = RunFolder(Path(experiment.output.run_dir))
    if not list(folder.path.glob("checkpoints/final-*")):
        raise UserError(
            f"--output.run_dir={folder.path} holds no run that was trained to its end; run `tfpt train` first."
        )
    return _go(experiment, folder, console=console, offline=offline, again=True)


def _go(experiment: Experiment, folder: "RunFolder", *, console: Console, offline: bool, again: bool) -> Run:
    """Does what is left of a run; of a finished one nothing, unless it is published again."""
    from tfpt.evaluation.gate import parse_requirements
    from tfpt.training import data_record
    from tfpt.training.setting import set_up
    from tfpt.training.tracking import Tracking

    folder.check_same(experiment)
    if not again and folder.is_finished():
        return _finished(experiment, folder, console)
    _check_model_dir(experiment)
    setting = set_up(experiment, console=console, offline=offline)
    if parse_requirements(experiment.export.require, setting.task.metric_names_of(setting.state)) and not len(
        setting.splits.test
    ):
        raise UserError(
            f"--export.require={experiment.export.require} is asked of the test split, and --input.split leaves none; give "
            "it a share, such as 70,15,15."
        )
    data_record.check_same(folder.path, setting.data_record)
    for backbone in setting.backbones.values():
        for name in backbone.weight_files():
            fetch(name, offline=offline, console=console)
    tracking = Tracking(experiment, folder.path, console=console, offline=offline)
    with folder.held():
        folder.check_same(experiment)
        if not again and folder.is_finished():  # another process may have come first
            return _finished(experiment, folder, console)
        console.set_log(folder.path / "log.txt")
        folder.write_experiment(experiment)
        folder.tracking = tracking
        try:
            return _run(setting, folder, console)
        except KeyboardInterrupt:
            folder.write_status("interrupted")
            console.say("Interrupted; the same command goes on from here.")
            raise
        except BaseException as error:
            folder.write_status("failed", reason=str(error))
            raise
        finally:
            folder.close()


def _finished(experiment: Experiment, folder: "RunFolder", console: Console) -> Run:
    """Returns a finished run, if it also meets what is asked of the export now."""
    from tfpt.evaluation.gate import check_requirements, parse_requirements

    run = load_run(folder.path, experiment)
    measured = {name: found["value"] for name, found in run.metrics.get("test", {}).items()}
    check_requirements(parse_requirements(experiment.export.require, list(measured)), measured)
    console.say(f"This experiment is finished; its results are in {folder.path}.")
    published = run.model_folder.parent if run.model_folder else None
    if experiment.export.publish and published != Path(experiment.output.model_dir).resolve():
        console.warn(
            f"Nothing was exported to {experiment.output.model_dir} now; `tfpt export` with the same flags does it."
        )
    return run


def tell(run: Run, console: Console) -> None:
    """Says what a run came to and where its results are; a worker that only helped has nothing to say."""
    if not run.metrics:
        return
    split = "test" if "test" in run.metrics else "validation"
    seeds_of_run = run.metrics.get("seeds", [])
    ends = f"range over seeds {', '.join(map(str, seeds_of_run))}" if seeds_of_run else "95 %"
    for name, found in run.metrics.get(split, {}).items():
        interval = "" if found["low"] is None else f"  ({ends}: {found['low']:.4f} to {found['high']:.4f})"
        console.say(f"{split} {name:<16} {found['value']:.4f}{interval}")
    console.say(f"report  {run.folder / ('seed-*/report.html' if seeds_of_run else 'report.html')}")
    if run.model_folder:
        console.say(f"model   {run.model_folder}")


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


def _run(setting: "Setting", folder: "RunFolder", console: Console) -> Run:
    from tfpt.training import strategies
    from tfpt.training.fit import train

    folder.write_status("running")
    folder.write_json("environment.json", environment())
    together = strategies.current()
    with together.losing_no_worker():
        trained = train(setting, folder, console=console)
        if not folder.writes:
            together.wait()  # a worker that leaves takes the others with it
    if not folder.writes:
        return Run(
            folder=folder.path,
            experiment=setting.experiment,
            metrics={},
            history=trained.progress.history,
            model_folder=None,
        )
    try:
        model_folder = publish(setting, trained, folder, console)
    finally:
        together.wait()
    folder.write_status("finished", trained.progress, model=str(model_folder.resolve()) if model_folder else None)
    return load_run(folder.path, setting.experiment)


def _as_backbone(given: Any) -> Any:
    """Returns a backbone of a keras.Model; what can be one already stays as it is.

    Raises:
        UserError: it is neither.
    """
    if isinstance(given, str | os.PathLike | Component | Backbone):
        return given
    startup.start_tensorflow()
    import keras

    from tfpt.backbones.keras import Keras

    if not isinstance(given, keras.Model):
        raise UserError(f'backbone={given!r}: write backbone="NAME:ARGUMENT", or give a Backbone or a keras.Model.')
    return Keras.from_model(given)


def _check_model_dir(experiment: Experiment) -> None:
    """Refuses a folder for models that cannot be written, or a version that exists, before hours of training.

    Raises:
        UserError: it is one of them.
    """
    version, folder = experiment.export.version, Path(experiment.output.model_dir)
    if not experiment.export.publish:
        return
    if version != "next" and (folder / version).exists():
        raise UserError(f"--export.version={version}: {folder / version} exists; write next or another number.")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        problem = "is not a folder" if not there.is_dir() else "cannot be written"
        raise UserError(
            f"--output.model_dir={folder}: {there} {problem}; choose a folder that is yours, or --export.publish=false."
        )


def _own_packages(experiment: Experiment) -> list[str]:
    """Returns the packages outside tfpt that the experiment itself takes components from."""
    components = [experiment.task, experiment.data, *experiment.backbone.values()]
    modules = [c.name if c.instance is None else type(c.instance).__module__ for c in components]
    return [module.split(".")[0] for module in modules]
