"""Cross-validation: a run for each fold, which is the test split of no other, and what they say together."""

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import record
from tfpt.atomic import atomic_text
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.seeds import SPLITS, spread
from tfpt.trained_run import numbers

if TYPE_CHECKING:
    from tfpt.run import Run

PREDICTIONS = "predictions.csv"


def wanted(experiment: Experiment) -> bool:
    """Tells whether an experiment is a cross-validation: all folds, not one."""
    return bool(experiment.input.folds) and experiment.input.fold == "all"


def of_fold(experiment: Experiment, fold: int) -> Experiment:
    """Returns the experiment with one fold: a run of its own inside the run folder, which publishes nothing."""
    return dataclasses.replace(
        experiment,
        input=dataclasses.replace(experiment.input, fold=fold),
        output=dataclasses.replace(
            experiment.output, run_dir=str(Path(experiment.output.run_dir) / f"fold-{fold}"), if_exists="resume"
        ),
        export=dataclasses.replace(experiment.export, publish=False, require=""),
    )


def fit_folds(experiment: Experiment, *, fit: Callable[[Experiment], "Run"], console: Console) -> "Run":
    """Trains once with each of `--input.folds` as test, tells mean and range, and puts the test predictions into one file.

    No model is published: each was trained without a part of the data.

    Args:
        experiment: its folders are filled in.
        fit: trains one experiment, or goes on with it.
        console: talks to the user.

    Returns:
        A run whose `metrics` hold mean, range and standard deviation.

    Raises:
        UserError: several seeds are asked for as well; or the data has changed since a fold was trained.
        GateError: `--export.require` does not hold for the mean; results are written.
    """
    from tfpt.evaluation.gate import check_requirements, parse_requirements

    folder, count = Path(experiment.output.run_dir), experiment.input.folds
    if experiment.train.seeds:
        raise UserError(
            f"--input.fold=all trains {count} times already; leave --train.seeds out, or choose one fold with --input.fold=0."
        )
    runs = []
    for fold in range(count):
        console.say(f"Fold {fold} ({fold + 1} of {count}):")
        runs.append(fit(of_fold(experiment, fold)))
    _check_same_data([run.folder for run in runs])
    record.write_flagfile(experiment, folder / "experiment.flags")
    found = [run.metrics for run in runs]
    metrics: dict[str, Any] = {
        **{name: found[0][name] for name in ("task", "primary", "higher_is_better")},
        "examples": {"test": sum(of_run["examples"]["test"] for of_run in found)},
        **spread(found),
        "folds": count,
        "runs": {fold: {split: of_run.get(split) for split in SPLITS} for fold, of_run in enumerate(found)},
    }
    write_out_of_fold([run.folder / PREDICTIONS for run in runs], folder / PREDICTIONS)
    with atomic_text(folder / "metrics.json") as file:
        json.dump(metrics, file, indent=1, ensure_ascii=False)
    if experiment.export.publish:
        console.say("Cross-validation exports no model; the same flags without --input.folds train one.")
    means = numbers(metrics["test"])
    check_requirements(parse_requirements(experiment.export.require, list(means)), means)
    return dataclasses.replace(runs[0], folder=folder, experiment=experiment, metrics=metrics, history=[])


def _check_same_data(folders: Sequence[Path]) -> None:
    """Refuses to put folds of different data together: a finished one is not trained again, whatever has become of the data.

    Raises:
        UserError: it names the folders.
    """
    contents = [(_contents(folder / "splits.csv"), _labels(folder / "data.json")) for folder in folders]
    before = [str(folder) for folder, found in zip(folders, contents, strict=True) if found != contents[-1]]
    if before:
        raise UserError(
            f"The data is not what it was when {', '.join(before)} {'was' if len(before) == 1 else 'were'} trained, so the folds do not "
            "belong together; remove what is of the old data, or choose another --output.name."
        )


def _contents(file: Path) -> list[tuple[str, str]]:
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        return [(row["name"], row["digest"]) for row in csv.DictReader(lines)]


def _labels(file: Path) -> Any:
    """Returns the digest of all labels; None in an older record."""
    return json.loads(file.read_text(encoding="utf-8", errors="surrogateescape")).get("labels_sha256")


def write_out_of_fold(files: Sequence[Path], path: Path) -> None:
    """Puts the test predictions of all folds into one file, whose column `split` says `fold-0`, `fold-1`, ...

    Every example is there once, answered by a model that has not seen it. Nothing is written where the task has no such file.

    Args:
        files: predictions.csv of each fold.
        path: the file; it appears whole or not at all.
    """
    if not all(file.is_file() for file in files):
        return
    with atomic_text(path, errors="surrogateescape") as output:
        writer = csv.writer(output, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for fold, file in enumerate(files):
            rows = _rows(file)
            header = next(rows)
            if fold == 0:
                writer.writerow(header)
            place = header.index("split")
            writer.writerows(
                [f"fold-{fold}" if k == place else cell for k, cell in enumerate(row)]
                for row in rows
                if row[place] == "test"
            )


def _rows(file: Path) -> Iterator[list[Any]]:
    """Yields the rows of a file in which all text is quoted and no number is; numbers that are whole stay so."""
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as lines:
        for row in csv.reader(lines, quoting=csv.QUOTE_NONNUMERIC):
            yield [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in row]
