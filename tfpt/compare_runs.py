"""Run folders -> rows of a table: one an experiment, its seeds taken together."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt import config, flagfile
from tfpt.errors import UserError
from tfpt.fields import settings_of

_NO_DIFFERENCE = re.compile(r"output\..*|export\..*|input\.fold|train\.(seeds?|checkpoint_\w+|keep_checkpoints)")
"""Flags in which the runs of one experiment may differ: seeds, and where and how results are kept."""

LEVEL = 0.95
"""The share of repetitions in which an interval over seeds should cover the mean."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A run that has results.

    Attributes:
        folder: its run folder.
        flags: every setting as text.
        metrics: what metrics.json holds.
    """

    folder: Path
    flags: Mapping[str, str]
    metrics: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Value:
    """A metric with the ends of its interval, None where there are none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment.

    Attributes:
        name: of its folder.
        runs: one a seed.
        flags: flag -> text, for the flags of the table; empty where the experiment has no such flag.
        values: metric -> value; metrics that it lacks are left out.
    """

    name: str
    runs: tuple[Measured, ...]
    flags: Mapping[str, str]
    values: Mapping[str, Value]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Experiments beside each other.

    Attributes:
        split: that was measured.
        flags: columns, by flag.
        metrics: columns, by metric.
        rows: the experiments.
        higher_is_better: whether it is, for the metrics of which that is known.
        notes: sentences for the user: what the ends of intervals are, which folders have no results.
    """

    split: str
    flags: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    higher_is_better: Mapping[str, bool]
    notes: tuple[str, ...]

    @property
    def seeds(self) -> bool:
        """Whether an experiment was run with several seeds."""
        return any(len(row.runs) > 1 for row in self.rows)

    def best(self, metric: str) -> list[Row]:
        """Returns the rows that are best by a metric; none where it is not known what better means, or there is one row."""
        there = [row for row in self.rows if metric in row.values]
        if metric not in self.higher_is_better or len(there) < 2:
            return []
        choose = max if self.higher_is_better[metric] else min
        top = choose(row.values[metric].value for row in there)
        return [row for row in there if row.values[metric].value == top]


def find_runs(paths: Iterable[Path]) -> tuple[list[Measured], list[str]]:
    """Reads the run folders that are named, or that lie below what is named.

    Returns:
        The runs, and sentences about folders without results.

    Raises:
        UserError: a path holds no run, or a file of one is damaged.
    """
    found: list[Measured] = []
    notes: list[str] = []
    for path in paths:
        folders = list(dict.fromkeys(_below(path))) if path.is_dir() else []
        if not folders:
            raise UserError(f"{path} holds no run; name a run folder (it holds experiment.flags), or a folder of such.")
        for folder in folders:
            metrics = _results(folder)
            if metrics is None:
                notes.append(f"{folder} has no results yet and is left out.")
            elif all(folder.resolve() != other.folder.resolve() for other in found):
                found.append(Measured(folder=folder, flags=_flags(folder), metrics=metrics))
    return found, notes


def compare(
    runs: Sequence[Measured],
    *,
    metrics: Sequence[str] = (),
    flags: Sequence[str] = (),
    split: str = "auto",
    spread: str = "interval",
    notes: Sequence[str] = (),
) -> Table:
    """Puts runs into a table, a row an experiment.

    Args:
        runs: at least one.
        metrics: columns; empty: the primary metric of each task; `all`: every one.
        flags: columns; empty: those in which the experiments differ.
        split: `test`, `validation`, or `auto`: test where every run has it.
        spread: what the ends of several seeds are: `interval` of the mean, or `range`.
        notes: sentences that the table keeps.

    Raises:
        UserError: there are no results of the split, or no such metric or flag.
    """
    if split == "auto":
        split = "test" if all("test" in run.metrics for run in runs) else "validation"
    groups, repeated = _grouped(runs)
    primaries = list(dict.fromkeys(str(run.metrics.get("primary", "")) for run in runs))
    there = list(dict.fromkeys(name for run in runs for name in run.metrics.get(split, {})))
    if not there:
        raise UserError(f"--table.split={split}: none of these runs was measured on it.")
    columns = there if list(metrics) == ["all"] else list(metrics) or [name for name in primaries if name in there]
    for name in columns:
        if name not in there:
            raise UserError(f"--table.metrics={name}: no run has it; there are {', '.join(there)}, or write all.")
    differing = _differing([group[0].flags for group in groups])
    for flag in flags:
        if not any(flag in run.flags for run in runs):
            raise UserError(f"--table.flags={flag}: no run has such a setting.")
    shown = tuple(flags) or tuple(flag for flag in differing if _tells_apart(flag, differing))
    rows = []
    for group in groups:
        values = {name: _value([run.metrics.get(split, {}).get(name) for run in group], spread) for name in columns}
        rows.append(
            Row(
                name=_name(group),
                runs=tuple(group),
                flags={flag: group[0].flags.get(flag, "") for flag in shown},
                values={name: value for name, value in values.items() if value is not None},
            )
        )
    known = {run.metrics.get("primary", ""): bool(run.metrics.get("higher_is_better", True)) for run in runs}
    return Table(
        split=split,
        flags=shown,
        metrics=tuple(columns),
        rows=tuple(rows),
        higher_is_better={**known, "loss": False},
        notes=(*notes, *repeated, *_what_ends_are(rows, spread, split)),
    )


def as_json(table: Table) -> list[dict[str, Any]]:
    """Returns the rows as plain values."""
    return [
        {
            "name": row.name,
            "runs": [str(run.folder) for run in row.runs],
            "flags": dict(row.flags),
            table.split: {name: dataclasses.asdict(value) for name, value in row.values.items()},
        }
        for row in table.rows
    ]


def _below(folder: Path) -> list[Path]:
    """Returns the run folders of a folder; those of the seeds or folds instead of the one that holds them."""
    members = [file.parent for kind in ("seed", "fold") for file in folder.glob(f"{kind}-*/experiment.flags")]
    if members:
        return sorted(members, key=_natural)
    if (folder / "experiment.flags").is_file():
        return [folder]
    below = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != ".")
    return [found for path in sorted(below, key=_natural) for found in _below(path)]


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _results(folder: Path) -> dict[str, Any] | None:
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'metrics.json'} is damaged; run the experiment again.") from error
    if not isinstance(metrics, dict):
        raise UserError(f"{folder / 'metrics.json'} is damaged; run the experiment again.")
    return metrics if metrics.get("test") or metrics.get("validation") else None


def _flags(folder: Path) -> dict[str, str]:
    """Returns every setting; what an earlier version did not have yet is at its default."""
    defaults = {
        item.flag: item.text(item.default) for name, cls in config.GROUPS.items() for item in settings_of(name, cls)
    }
    given = {name: given.value or "" for name, given in flagfile.read(folder / "experiment.flags").items()}
    return {**given, **{flag: text for flag, text in defaults.items() if flag not in given}}


def _grouped(runs: Sequence[Measured]) -> tuple[list[list[Measured]], list[str]]:
    """Puts the seeds and folds of an experiment together; of the same twice the one that was measured last counts."""
    groups: dict[tuple[tuple[str, str], ...], dict[tuple[str, str], Measured]] = {}
    notes = []
    for run in runs:
        settings = tuple(sorted((flag, text) for flag, text in run.flags.items() if not _NO_DIFFERENCE.fullmatch(flag)))
        group, seed = groups.setdefault(settings, {}), run.flags.get("train.seed", "")
        member = seed, run.flags.get("input.fold", "")
        if member in group:
            first, last = sorted((group[member], run), key=lambda one: (one.folder / "metrics.json").stat().st_mtime_ns)
            notes.append(
                f"{first.folder} and {last.folder} are the same experiment with seed {seed}; the second counts."
            )
            group[member] = last
        else:
            group[member] = run
    return [list(group.values()) for group in groups.values()], notes


def _differing(settings: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Returns flag -> its text in each experiment, for the flags in which they differ."""
    flags = dict.fromkeys(flag for one in settings for flag in one if not _NO_DIFFERENCE.fullmatch(flag))
    columns = {flag: tuple(one.get(flag, "") for one in settings) for flag in flags}
    return {flag: column for flag, column in columns.items() if len(set(column)) > 1}


def _tells_apart(flag: str, differing: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a column says more than that of the component whose setting it is: `backbone.weights` only where one
    backbone has several."""
    kind = flag.partition(".")[0]
    if kind == flag or kind not in config.KINDS or kind not in differing:
        return True
    return len(set(zip(differing[kind], differing[flag], strict=True))) > len(set(differing[kind]))


def _value(found: Sequence[Mapping[str, Any] | None], spread: str) -> Value | None:
    there = [one for one in found if one and one.get("value") is not None]
    if not there:
        return None
    if len(there) == 1:
        return Value(there[0]["value"], there[0].get("low"), there[0].get("high"))
    values = [float(one["value"]) for one in there]
    mean = math.fsum(values) / len(values)
    if spread == "range":
        return Value(mean, min(values), max(values))
    half = _student(len(values) - 1) * math.sqrt(
        math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)
    )
    return Value(mean, mean - half, mean + half)


def _student(freedom: int) -> float:
    """Returns the two-sided 95 % quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _name(group: Sequence[Measured]) -> str:
    names = [run.folder.resolve() for run in group]
    parents = {path.parent.name for path in names if path.name.startswith(("seed-", "fold-"))}
    return parents.pop() if len(parents) == 1 else names[0].name


def _what_ends_are(rows: Sequence[Row], spread: str, split: str) -> list[str]:
    over_seeds = {
        "interval": "95 % interval of the mean over seeds or folds (Student's t)",
        "range": "smallest and largest over seeds or folds",
    }
    said = []
    if any(len(row.runs) > 1 for row in rows):
        said.append(f"several seeds or folds: mean, and {over_seeds[spread]}")
    if any(len(row.runs) == 1 and value.low is not None for row in rows for value in row.values.values()):
        said.append(f"one seed: 95 % interval over {split} examples")
    return [f"In brackets, {'; '.join(said)}."] if said else []
