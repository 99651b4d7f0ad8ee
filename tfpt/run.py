"""One experiment from beginning to end: train, measure, prove, publish, report."""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import keywords, record, startup
from tfpt.backbones import Backbone
from tfpt.config import DEFAULT_TRUNK, Component, Experiment
from tfpt.console import Console
from tfpt.data import DataSource
from tfpt.errors import UserError
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
    """

    folder: Path
    experiment: Experiment
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    model_folder: Path | None

    @property
    def model(self) -> "Servable":
        """The published model, loaded."""
        from tfpt.serving.servable import Servable

        if self.model_folder is None:
            raise UserError("The run published no model: --export.publish was false.")
        return Servable.load(self.model_folder, trust=_own_packages(self.experiment))

    def predict(self, examples: Sequence[str | Path | bytes]) -> dict[str, "np.ndarray"]:
        """Answers raw examples: paths of files, or their bytes."""
        model = self.model
        (feature,) = {name for p in model.preprocessors.values() for name in p.raw_features}
        return model.predict({feature: [e if isinstance(e, bytes) else Path(e).read_bytes() for e in examples]})

    def export(self, folder: str | Path) -> Path:
        """Copies the published model into a folder of its own.

        Raises:
            UserError: the folder exists, or cannot be written.
        """
        if self.model_folder is None:
            raise UserError("The run published no model: --export.publish was false.")
        try:
            shutil.copytree(self.model_folder, folder)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror or 'it exists'}); give a new folder."
            ) from error
        return Path(folder)


def fit(*, task: Any, data: Any, backbone: Any, quiet: bool = False, **options: Any) -> Run:
    """Trains, measures and exports, as `tfpt train` does.

    Args:
        task: `image_classification`, or a Task.
        data: `folder:my photos`, or a DataSource.
        backbone: `efficientnet_lite:lite0`, a Backbone, a keras.Model, or a dictionary of such by trunk name.
        quiet: show nothing but warnings.
        **options: settings by their name (`epochs=2`, `learning_rate=1e-3`), or a dictionary for a group
            (`train={"epochs": 2}`).

    Raises:
        UserError: a setting or the data is not right; the sentence says what is allowed.
    """
    for kind, given, base in (("task", task, Task), ("data", data, DataSource)):
        if not isinstance(given, str | os.PathLike | Component | base):
            raise UserError(
                f'{kind}={given!r}: write {kind}="NAME:ARGUMENT", or give an object of the class {base.__name__}.'
            )
    trunks = backbone if isinstance(backbone, Mapping) else {DEFAULT_TRUNK: backbone}
    if not all(isinstance(given, str | os.PathLike | Component | Backbone) for given in trunks.values()):
        backbone = {name: _as_backbone(given) for name, given in trunks.items()}
    experiment = keywords.experiment_from_kwargs(task=task, data=data, backbone=backbone, **options)
    return fit_experiment(experiment, console=Console(quiet=quiet))


def fit_experiment(experiment: Experiment, *, console: Console, offline: bool = False) -> Run:
    """Trains, measures and exports one experiment, or goes on where it stopped.

    Args:
        experiment: the settings; folders that were left open get their default names.
        console: talks to the user.
        offline: never use the network.
    """
    experiment = record.output_paths(experiment)
    startup.start_tensorflow(experiment.runtime.threads)
    from tfpt.training.run_folder import RunFolder, free_name
    from tfpt.training.setting import set_up

    if experiment.output.if_exists == "new":
        experiment = free_name(experiment)
    folder = RunFolder(Path(experiment.output.run_dir))
    status = folder.status()
    if status and experiment.output.if_exists == "fail":
        raise UserError(f"--output.if_exists=fail, and {folder.path} holds a run; choose another --output.name.")
    folder.check_same(experiment)
    if status and status["state"] == "finished":
        console.say(f"This experiment is finished; its results are in {folder.path}.")
        return load_run(folder.path, experiment)
    _check_model_dir(experiment)
    setting = set_up(experiment, console=console)
    for backbone in setting.backbones.values():
        for name in backbone.weight_files():
            fetch(name, offline=offline, console=console)
    with folder.held():
        console.set_log(folder.path / "log.txt")
        folder.write_experiment(experiment)
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


def export_experiment(experiment: Experiment, *, console: Console) -> Run:
    """Measures and publishes a trained experiment again.

    Raises:
        UserError: it was not trained to its end.
    """
    experiment = record.output_paths(experiment)
    startup.start_tensorflow(experiment.runtime.threads)
    from tfpt.training.run_folder import RunFolder
    from tfpt.training.setting import set_up

    folder = RunFolder(Path(experiment.output.run_dir))
    folder.check_same(experiment)
    if not list(folder.path.glob("checkpoints/final-*")):
        raise UserError(
            f"--output.run_dir={folder.path} holds no run that was trained to its end; run `tfpt train` first."
        )
    setting = set_up(experiment, console=console)
    with folder.held():
        console.set_log(folder.path / "log.txt")
        return _run(setting, folder, console)


def tell(run: Run, console: Console) -> None:
    """Says what a run came to and where its results are."""
    split = "test" if "test" in run.metrics else "validation"
    for name, found in run.metrics.get(split, {}).items():
        interval = "" if found["low"] is None else f"  (95 %: {found['low']:.4f} to {found['high']:.4f})"
        console.say(f"{split} {name:<16} {found['value']:.4f}{interval}")
    console.say(f"report  {run.folder / 'report.html'}")
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
    from tfpt.evaluation.gate import parse_requirements
    from tfpt.training import fit as training

    parse_requirements(setting.experiment.export.require, setting.task.metric_names())
    folder.write_status("running")
    folder.write_json("environment.json", environment())
    trained = training.train(setting, folder, console=console)
    model_folder = publish(setting, trained, folder, console)
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
    return [experiment.task.name.split(".")[0]] if "." in experiment.task.name else []
