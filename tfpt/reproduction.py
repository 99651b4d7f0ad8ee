"""What a run was made with beside what is here now, and its results beside those of another run of the same experiment."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfpt.config import Experiment
from tfpt.errors import UserError

_SAME = 1e-6
"""Relative difference below which two numbers are called equal: what the order of additions can change."""
_WORDS = {"git": "commit of the working folder", "cpu": "processor", "os": "operating system", "tfpt": "code (tfpt)"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A metric, then and now.

    Attributes:
        split: that it was measured on.
        metric: its name.
        then: value in the recorded run.
        low: end of its interval there; None where it has none.
        high: the other end.
        now: value in the new run; NaN where it has none.
    """

    split: str
    metric: str
    then: float
    low: float | None
    high: float | None
    now: float

    @property
    def verdict(self) -> str:
        """`equal`, `within` (the interval), or `differs`."""
        if math.isclose(self.then, self.now, rel_tol=_SAME, abs_tol=1e-12):
            return "equal"
        inside = self.low is not None and self.high is not None and self.low <= self.now <= self.high
        return "within" if inside else "differs"


def record_folder(folder: Path) -> Path:
    """Returns where environment.json and data.json are: for a run of several seeds or folds, the folder of one of them."""
    several = sorted([*folder.glob("seed-*/data.json"), *folder.glob("fold-*/data.json")])
    return folder if (folder / "data.json").exists() or not several else several[0].parent


def is_finished(folder: Path) -> bool:
    """Tells whether a folder holds a run that came to its end: of one, its status says so, of several seeds or folds their results."""
    if (folder / "status.json").exists():
        return read(folder / "status.json").get("state") == "finished"
    return (folder / "metrics.json").exists()


def read(file: Path) -> dict[str, Any]:
    """Returns what a JSON file of a run holds.

    Raises:
        UserError: it is gone or damaged.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is gone or damaged, so the run cannot be compared with another.") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged, so the run cannot be compared with another.")
    return found


def placed(experiment: Experiment, folder: Path) -> Experiment:
    """Returns the experiment in a run folder of its own, which publishes nothing and is followed nowhere."""
    output = dataclasses.replace(
        experiment.output, name=folder.name, run_dir=str(folder), if_exists="resume", trackers=()
    )
    export = dataclasses.replace(experiment.export, publish=False, require="")
    return dataclasses.replace(experiment, output=output, export=export)


def environment_differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each version, and each part of the machine, that is not the same."""
    return [
        f"{_WORDS.get(name, name)}: {then.get(name, 'not recorded')} then, {now.get(name, 'not known')} now"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]


def data_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each split whose examples are not the same."""
    found = []
    for split, digest in then.get("sha256", {}).items():
        if digest == now["sha256"].get(split):
            continue
        counts = [one["examples"].get(split, 0) for one in (then, now)]
        many = (
            f"{counts[0]} examples then, {counts[1]} now" if counts[0] != counts[1] else f"others, {counts[0]} as then"
        )
        found.append(f"data, {split}: {many}")
    labels = [one.get("labels_sha256") for one in (then, now)]
    if not found and None not in labels and labels[0] != labels[1]:
        found.append("data: the same examples, with other labels, names of classes, or examples that are left out")
    return found


def weights_differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each trunk, checkpoint's head or `--train.init_from` that did not begin with the same weights."""
    return [
        f"weights of {name}: {then.get(name, 'not recorded')[:12]} then, {now.get(name, 'none')[:12]} now"
        for name in then or now  # an older record does not hold all that there is now
        if name != "machine" and then.get(name) != now.get(name)
    ]


def compare_metrics(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Compared]:
    """Returns every metric of the recorded run beside the new one's."""
    return [
        Compared(
            split=split,
            metric=name,
            then=float(found["value"]),
            low=found.get("low"),
            high=found.get("high"),
            now=_number(now.get(split, {}).get(name, {}).get("value")),
        )
        for split in ("validation", "test")
        for name, found in (then.get(split) or {}).items()
        if found.get("value") is not None
    ]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
