"""Runs a recorded run again and tells whether its results can be had once more.

Code, package versions, machine, data and weights are compared first, and each difference is named. Then the experiment runs
in a folder of its own, and each metric is compared with the recorded one: equal, within its interval, or different (exit
code 1). With other data nothing is run, unless --reproduce.anyway says so.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfpt import app, flags
from tfpt.config import setting
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "Run a recorded run again and compare."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `reproduce`."""

    output: str = setting(
        "",
        "Run folder of the new run; default: RUN-again, or RUN-again-2, ... where that is finished. One that was begun is gone on with.",
    )
    anyway: bool = setting(False, "Run even if the data is not the same.")
    check: bool = setting(False, "Only name the differences; run nothing.")


GROUPS = {"reproduce": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _reproduce,
        program="reproduce",
        about=__doc__ or "",
        example="tfpt reproduce runs/mine",
        groups=GROUPS,
        need_experiment=False,
        positional="RUN",
        argv=argv,
    )


def _reproduce(parsed: flags.Parsed, console: Console) -> int:
    from tfpt import folds, reproduction

    if len(parsed.paths) != 1:
        raise UserError("Write the one run folder to run again: tfpt reproduce runs/NAME.")
    options, folder = parsed.options["reproduce"], Path(parsed.paths[0])
    if not (folder / "experiment.flags").is_file():
        raise UserError(f"{folder} is no run folder: it holds no experiment.flags.")
    place = _place(folder, options.output)
    experiment = reproduction.placed(flags.read_experiment(folder / "experiment.flags"), place)
    recorded = reproduction.record_folder(folder)
    metrics = reproduction.read(folder / "metrics.json")
    data = reproduction.read(recorded / "data.json")
    weights_file = recorded / "weights.json"
    weights = reproduction.read(weights_file) if weights_file.exists() else {}
    app.start_tensorflow(experiment.runtime.threads)
    from tfpt.evaluation.environment import environment
    from tfpt.run import fit_experiment
    from tfpt.training.run_folder import RunFolder
    from tfpt.training.setting import set_up

    experiment = RunFolder(recorded).as_begun(experiment)
    made_with = reproduction.environment_differences(reproduction.read(recorded / "environment.json"), environment())
    one = folds.of_fold(experiment, int(recorded.name.rpartition("-")[2])) if folds.wanted(experiment) else experiment
    now = set_up(one, console=Console(quiet=True), offline=parsed.offline).data_record
    learned_from = reproduction.data_differences(data, now)
    _tell([*made_with, *learned_from], console)
    if options.check:
        return app.FAILED if learned_from else app.DONE
    if learned_from and not options.anyway:
        raise UserError(
            f"--data={experiment.data} is not what {folder} learned from; restore it, or write --reproduce.anyway to run all the same."
        )
    run = fit_experiment(experiment, console=console, offline=parsed.offline)
    began_with = reproduction.weights_differences(
        weights, reproduction.read(reproduction.record_folder(place) / "weights.json")
    )
    _tell(began_with, console)
    compared = reproduction.compare_metrics(metrics, run.metrics)
    rows = [(c.split, c.metric, c.then, c.now, _interval(c.low, c.high), c.verdict) for c in compared]
    console.table(["split", "metric", "then", "now", "interval then", "verdict"], rows)
    wrong = [f"{c.split} {c.metric}" for c in compared if c.verdict == "differs"]
    equal = sum(c.verdict == "equal" for c in compared)
    if wrong or not compared:
        console.say(f"Not reproduced: {', '.join(wrong) or 'the run has no metrics'}.")
    else:
        console.say(f"Reproduced: {equal} of {len(compared)} metrics are equal, the others within their intervals.")
    if parsed.json:
        differences = [*made_with, *learned_from, *began_with]
        said = [{**dataclasses.asdict(c), "verdict": c.verdict} for c in compared]
        print(json.dumps({"reproduced": not wrong, "differences": differences, "metrics": said}, indent=1))
    return app.FAILED if wrong or not compared else app.DONE


def _place(folder: Path, output: str) -> Path:
    """Returns the folder to run in: never that of a run that is finished, of which nothing would run.

    Raises:
        UserError: the one that was asked for holds such a run.
    """
    from tfpt import reproduction

    if output and reproduction.is_finished(Path(output)):
        raise UserError(
            f"--reproduce.output={output} holds a finished run, so nothing would run again; name another folder."
        )
    if output:
        return Path(output)
    first = folder.with_name(f"{folder.resolve().name}-again")
    others = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(place for place in itertools.chain([first], others) if not reproduction.is_finished(place))


def _tell(differences: Sequence[str], console: Console) -> None:
    for sentence in differences:
        console.say(f"differs  {sentence}")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


if __name__ == "__main__":
    main()
