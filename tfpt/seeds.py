"""One experiment with several seeds: small data sets give another number with each, so the mean and the range are told."""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import record
from tfpt.atomic import atomic_text
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.run import Run

FILE = "seeds.json"
SPLITS = ("validation", "test")


def of_seed(experiment: Experiment, seed: int) -> Experiment:
    """Returns the experiment with one seed: a run of its own inside the run folder, which publishes nothing."""
    return dataclasses.replace(
        experiment,
        train=dataclasses.replace(experiment.train, seed=seed, seeds=()),
        output=dataclasses.replace(
            experiment.output, run_dir=str(Path(experiment.output.run_dir) / f"seed-{seed}"), if_exists="resume"
        ),
        export=dataclasses.replace(experiment.export, publish=False, require=""),
    )


def trained_best(experiment: Experiment) -> Experiment:
    """Returns the experiment with the seed that was best when it was trained.

    Raises:
        UserError: it was not trained to its end.
    """
    file = Path(experiment.output.run_dir) / "metrics.json"
    try:
        seed = json.loads(file.read_text(encoding="utf-8"))["best_seed"]
    except (OSError, ValueError, LookupError) as error:
        raise UserError(
            f"--output.run_dir={file.parent} holds no run of --train.seeds that came to its end; run `tfpt train` first."
        ) from error
    return dataclasses.replace(of_seed(experiment, seed), export=experiment.export)


def best_seed(metrics: Mapping[int, Mapping[str, Any]]) -> int:
    """Returns the seed that was best on validation by the primary metric, the first one without a validation split.

    Args:
        metrics: seed -> what its metrics.json holds.
    """

    def goodness(seed: int) -> float:
        of_run = metrics[seed]
        if "validation" not in of_run:
            return 0.0
        value = of_run["validation"][of_run["primary"]]["value"]
        if value is None:  # not a number
            return -math.inf
        return value if of_run["higher_is_better"] else -value

    return max(metrics, key=goodness)


def spread(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Returns, for each split and metric, mean (`value`), smallest and largest (`low`, `high`) over runs, and their standard
    `deviation` from the mean (that of a sample, n - 1).

    All are None where a run's value is not a number. A metric that not all runs have is left out.
    """
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for split in SPLITS:
        for name in metrics[0].get(split, {}):
            if not all(name in of_run.get(split, {}) for of_run in metrics):
                continue
            values = [of_run[split][name]["value"] for of_run in metrics]
            if None in values:
                found.setdefault(split, {})[name] = dict.fromkeys(("value", "low", "high", "deviation"))
                continue
            found.setdefault(split, {})[name] = {
                "value": sum(values) / len(values),
                "low": min(values),
                "high": max(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
            }
    return found


def fit_seeds(
    experiment: Experiment,
    *,
    fit: Callable[[Experiment], "Run"],
    export: Callable[[Experiment], "Run"],
    console: Console,
) -> "Run":
    """Trains with each of `--train.seeds`, tells mean and range, and publishes the model that is best on validation.

    Args:
        experiment: its folders are filled in.
        fit: trains one experiment, or goes on with it.
        export: measures and publishes one that was trained.
        console: talks to the user.

    Returns:
        A run whose `metrics` hold mean and range, with the best seed's model and history.
    """
    folder, seeds = Path(experiment.output.run_dir), experiment.train.seeds
    runs = {}
    for number, seed in enumerate(seeds, start=1):
        console.say(f"Seed {seed} ({number} of {len(seeds)}):")
        runs[seed] = fit(of_seed(experiment, seed))
    record.write_flagfile(experiment, folder / "experiment.flags")
    best = best_seed({seed: run.metrics for seed, run in runs.items()})
    first = next(iter(runs.values())).metrics
    metrics = {
        **{name: first[name] for name in ("task", "primary", "higher_is_better", "examples")},
        **spread([run.metrics for run in runs.values()]),
        "seeds": list(seeds),
        "best_seed": best,
        "runs": {seed: {split: run.metrics.get(split) for split in SPLITS} for seed, run in runs.items()},
    }
    with atomic_text(folder / "metrics.json") as file:
        json.dump(metrics, file, indent=1, ensure_ascii=False)
    published = _published(folder, best)
    if experiment.export.publish and not published:
        console.say(f"Seed {best} was best on validation; its model is exported.")
        one = of_seed(experiment, best)
        published = export(dataclasses.replace(one, export=experiment.export)).model_folder
        with atomic_text(folder / FILE) as file:
            json.dump({"best": best, "model": str(published)}, file)
    return dataclasses.replace(
        runs[best], folder=folder, experiment=experiment, metrics=metrics, model_folder=published
    )


def _published(folder: Path, best: int) -> Path | None:
    try:
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    there = known["best"] == best and Path(known["model"]).is_dir()
    return Path(known["model"]) if there else None
