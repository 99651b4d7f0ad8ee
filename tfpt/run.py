"""One experiment from beginning to end: train, measure, prove, publish, report."""

import builtins
import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import folds, formats, keywords, record, seeds, startup, writable
from tfpt.backbones import Backbone
from tfpt.config import DEFAULT_TRUNK, OBJECT, Component, Experiment, Optim
from tfpt.console import Console
from tfpt.data import DataSource
from tfpt.errors import Preempted, UserError
from tfpt.evaluation.environment import environment
from tfpt.given_objects import identified
from tfpt.publish import publish
from tfpt.retracing import no_retracing_notices
from tfpt.tasks import Task
from tfpt.trained_run import Run as Run
from tfpt.trained_run import load_run, numbers
from tfpt.trained_run import tell as tell
from tfpt.weights.fetch import fetch

if TYPE_CHECKING:
    from tfpt.training.run_folder import RunFolder
    from tfpt.training.setting import Setting


def fit(
    *,
    task: Any,
    data: Any,
    backbone: Any,
    name: str = "",
    loss: Any = None,
    metrics: Any = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Trains, measures and exports, as `tfpt train` does.

    In a notebook, interrupting the cell returns the run so far; the same call goes on with it.

    Args:
        task: `image_classification`, or a Task.
        data: `folder:my photos`, a DataSource, a DataFrame, arrays `(x, y)`, a tf.data.Dataset, or a dictionary of such by split.
        backbone: `efficientnet_lite:lite0`, a Backbone, a keras.Model, or a dictionary of such by trunk name.
        name: of the run, its folder and its model; made from the settings when it is left out.
        loss: a function `(truth, outputs) -> [batch]`, or a `keras.losses.Loss`, in place of the task's own loss; see
            `tfpt.tasks._own_functions.with_functions`.
        metrics: functions `(truth, answers) -> number` by name, or a list of them, beside the task's own metrics; they get
            intervals, too. The best weights are still chosen by one of the task's own.
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
        backbone = {trunk: _as_backbone(given) for trunk, given in trunks.items()}
    if name:
        options["output"] = _named_output(name, options.get("output", {}))
    chosen = keywords.experiment_from_kwargs(task=task, data=data, backbone=backbone, **options)
    own_functions = loss is not None or metrics
    experiment = keywords.experiment_from_kwargs(
        task=identified(_with_functions(chosen, loss, metrics) if own_functions else chosen.task),
        data=identified(chosen.data),
        backbone={trunk: identified(component) for trunk, component in chosen.backbone.items()},
        **{name: value for name, value in options.items() if not name.endswith("_options")},
    )
    try:
        return fit_experiment(experiment, console=Console(quiet=quiet))
    except KeyboardInterrupt as pressed:
        so_far = _so_far(experiment) if getattr(builtins, "__IPYTHON__", False) else None
        if so_far is None or isinstance(pressed, Preempted):
            raise
        return so_far


def _named_output(name: str, output: Any) -> dict[str, Any]:
    """Returns the settings of the group `output` with a name of the run.

    Raises:
        UserError: it is given twice, or is that of an optimizer.
    """
    (optimizers,) = (field.metadata["choices"] for field in dataclasses.fields(Optim) if field.name == "name")
    if name in optimizers:
        raise UserError(
            f'name={name}: this would be the name of the run; write optim={{"name": "{name}"}} for the optimizer, or '
            f'output={{"name": "{name}"}}.'
        )
    if not isinstance(output, Mapping) or "name" in output:
        raise UserError("name is given twice, by itself and in output.")
    return {**output, "name": name}


def _with_functions(experiment: Experiment, loss: Any, metrics: Any) -> Component:
    """Returns the experiment's task with the user's functions; its record says their names, and cannot be run again."""
    from tfpt.tasks._own_functions import with_functions

    if loss is not None and experiment.train.head_solver == "exact":
        raise UserError("loss=: head_solver=exact solves the task's own loss; leave one of them out.")
    task, told = with_functions(experiment.task.make(), loss=loss, metrics=metrics)
    return Component(kind="task", name=OBJECT, argument=told, instance=task)


def _so_far(experiment: Experiment) -> Run | None:
    """Returns the interrupted run of an experiment; None where nothing was begun, or in a folder with another name."""
    from tfpt.training.run_folder import RunFolder

    folder = RunFolder(Path(experiment.output.run_dir))
    inside = [
        RunFolder(path.parent) for path in sorted(folder.path.glob("*-*/status.json"))
    ]  # of several seeds or folds
    stopped = next((one for one in (folder, *inside) if (one.status() or {}).get("state") == "interrupted"), None)
    if experiment.output.if_exists == "new" or stopped is None:
        return None
    return Run(
        folder=folder.path,
        experiment=experiment,
        metrics={},
        history=stopped.history(),
        model_folder=None,
        interrupted=True,
    )


def fit_experiment(
    experiment: Experiment,
    *,
    console: Console,
    offline: bool = False,
    adapt: "Callable[[Setting], Setting] | None" = None,
) -> Run:
    """Trains, measures and exports one experiment, or goes on where it stopped.

    Args:
        experiment: the settings; folders that were left open get their default names.
        console: talks to the user.
        offline: never use the network.
        adapt: changes what is trained, but not what is measured and exported; not with several seeds.
    """
    experiment = record.output_paths(experiment)
    startup.start_tensorflow(experiment.runtime.threads)
    from tfpt.training import strategies
    from tfpt.training.follower import Follower, Silent
    from tfpt.training.run_folder import RunFolder, free_name

    together = strategies.start(experiment.runtime)
    if not together.is_chief:
        console = Silent()
    if experiment.output.if_exists == "new":
        experiment = free_name(experiment)
    folder = (RunFolder if together.is_chief else Follower)(Path(experiment.output.run_dir))
    several = "--input.fold=all" if folds.wanted(experiment) else "--train.seeds" if experiment.train.seeds else ""
    if several and together.workers > 1:
        raise UserError(f"{several} trains several runs, and several workers train one; leave one of the two out.")
    begun = folder.status() or (several and any(folder.path.glob("*/status.json")))
    if begun and experiment.output.if_exists == "fail":
        raise UserError(f"--output.if_exists=fail, and {folder.path} holds a run; choose another --output.name.")
    if several:  # all seeds or folds do what those did that were begun
        for one in [*folder.path.glob("seed-*"), *folder.path.glob("fold-*")]:
            experiment = RunFolder(one).as_begun(experiment)
    if folds.wanted(experiment):
        folder.check_same(experiment)
        return folds.fit_folds(
            experiment, fit=functools.partial(fit_experiment, console=console, offline=offline), console=console
        )
    if experiment.train.seeds:
        folder.check_same(experiment)
        return seeds.fit_seeds(
            experiment,
            fit=functools.partial(fit_experiment, console=console, offline=offline),
            export=functools.partial(export_experiment, console=console, offline=offline),
            console=console,
        )
    return _go(experiment, folder, console=console, offline=offline, again=False, adapt=adapt)


def export_experiment(experiment: Experiment, *, console: Console, offline: bool = False) -> Run:
    """Measures and publishes a trained experiment again.

    Raises:
        UserError: it was not trained to its end.
    """
    experiment = record.output_paths(experiment)
    experiment = dataclasses.replace(experiment, export=dataclasses.replace(experiment.export, publish=True))
    if folds.wanted(experiment):
        raise UserError(
            f"--input.folds={experiment.input.folds}: cross-validation has no model to export; train without it."
        )
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


def _go(
    experiment: Experiment,
    folder: "RunFolder",
    *,
    console: Console,
    offline: bool,
    again: bool,
    adapt: "Callable[[Setting], Setting] | None" = None,
) -> Run:
    """Does what is left of a run; of a finished one nothing, unless it is published again."""
    from tfpt.evaluation.gate import parse_requirements
    from tfpt.serving import bundle, servable
    from tfpt.training import data_record
    from tfpt.training.setting import set_up
    from tfpt.training.tracking import Tracking

    folder.check_same(experiment)
    experiment = folder.as_begun(experiment)
    if not again and folder.is_finished():
        return _finished(experiment, folder, console)
    _check_model_dir(experiment)
    formats.check_installed(experiment.export.formats)
    setting = set_up(experiment, console=console, offline=offline)
    if parse_requirements(experiment.export.require, setting.task.metric_names_of(setting.state)) and not len(
        setting.splits.test
    ):
        raise UserError(
            f"--export.require={experiment.export.require} is asked of the test split, and --input.split leaves none; give "
            "it a share, such as 70,15,15."
        )
    bundle.input_names(experiment.export.input_name, servable.raw_features(setting.preprocessors))
    data_record.check_same(folder.path, setting.data_record)
    console.say(_primary_metric(setting))
    for backbone in setting.backbones.values():
        for name in backbone.weight_files():
            fetch(name, offline=offline, console=console)
    tracking = Tracking(experiment, folder.path, console=console, offline=offline)
    with folder.held():
        changed = folder.check_same(experiment)
        if not again and folder.is_finished():  # another process may have come first
            return _finished(experiment, folder, console)
        console.set_log(folder.path / "log.txt")
        if changed:
            console.warn(f"From here on the run has other settings than before: {', '.join(changed)}.")
        folder.write_experiment(experiment)
        folder.tracking = tracking
        try:
            with no_retracing_notices():
                return _run(setting, folder, console, adapt)
        except KeyboardInterrupt:
            with contextlib.suppress(UserError):  # of a full disk: what is told is that it was interrupted
                folder.write_status("interrupted")
            anew = ", but with --output.if_exists=resume" if experiment.output.if_exists in ("new", "fail") else ""
            console.say(f"Interrupted; the same command{anew} goes on from here.")
            raise
        except BaseException as error:
            with contextlib.suppress(UserError):
                folder.write_status("failed", reason=str(error))
            raise
        finally:
            folder.close()


def _primary_metric(setting: "Setting") -> str:
    """Says what the best weights are chosen by, and whether that was asked for."""
    primary = setting.task.primary_of(setting.state)
    auto = " (--task.metric=auto)" if getattr(setting.task.config, "metric", "") == "auto" else ""
    better = "" if primary.higher_is_better else ", lower is better"
    where = (
        "the weights that are best by it on validation are kept"
        if len(setting.splits.validation)
        else "there is no validation split, so the last weights are kept"
    )
    return f"Primary metric: {primary.name}{auto}{better}; {where}."


def _finished(experiment: Experiment, folder: "RunFolder", console: Console) -> Run:
    """Returns a finished run, if it also meets what is asked of the export now."""
    from tfpt.evaluation.gate import check_requirements, parse_requirements

    run = load_run(folder.path, experiment)
    measured = numbers(run.metrics.get("test", {}))
    check_requirements(parse_requirements(experiment.export.require, list(measured)), measured)
    console.say(f"This experiment is finished; its results are in {folder.path}.")
    published = run.model_folder.parent if run.model_folder else None
    if experiment.export.publish and published != Path(experiment.output.model_dir).resolve():
        console.warn(
            f"Nothing was exported to {experiment.output.model_dir} now; `tfpt export` with the same flags does it."
        )
    return run


def _run(
    setting: "Setting", folder: "RunFolder", console: Console, adapt: "Callable[[Setting], Setting] | None"
) -> Run:
    from tfpt.training import strategies
    from tfpt.training.fit import train

    folder.write_status("running")
    folder.write_json("environment.json", environment())
    together = strategies.current()
    with together.losing_no_worker():
        trained = train(adapt(setting) if adapt else setting, folder, console=console)
    if not folder.writes:
        if not together.leave() and not folder.is_finished():  # the first worker says so before it leaves
            raise Preempted("another worker was lost")
        return Run(
            folder=folder.path,
            experiment=setting.experiment,
            metrics={},
            history=trained.progress.history,
            model_folder=None,
        )
    try:
        model_folder = publish(setting, trained, folder, console)
        folder.write_status("finished", trained.progress, model=str(model_folder.resolve()) if model_folder else None)
    finally:
        together.leave()
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
    way_out = "choose a folder that is yours, or --export.publish=false"
    writable.check_folder(folder, flag="--output.model_dir", way_out=way_out)
