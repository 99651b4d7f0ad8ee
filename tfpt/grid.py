"""A grid of experiments: `optim.learning_rate=1e-3,1e-4 train.seed=0,1` -> its cells."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfpt import config, flags, record
from tfpt.config import Experiment
from tfpt.errors import UserError

_OPENING, _CLOSING = "([{", ")]}"
_LONGEST_NAME = 150
_ONE_PROCESS = ("runtime.threads",)
"""TensorFlow takes them once a process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One experiment of a grid.

    Attributes:
        name: of its folder: the flags of the grid with their values.
        experiment: its settings.
    """

    name: str
    experiment: Experiment

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.experiment.output.run_dir)


def parse_axes(text: str) -> dict[str, tuple[str, ...]]:
    """Returns flag -> its values.

    Flags stand apart by spaces, values by commas; inside brackets neither counts, and brackets around a whole value are
    taken away: `input.split=[70,15,15],[80,10,10] input.augment=flip|randaugment(2,9),none`.

    Raises:
        UserError: it is not written so.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for part in _split(text, " \t\n"):
        flag, equals, values = part.removeprefix("--").partition("=")
        found = tuple(_bare(value) for value in _split(values, ","))
        if not equals or not flag or not found or not all(found):
            raise UserError(f"--sweep.over={text}: {part} is not FLAG=VALUE,VALUE,...")
        if flag in axes:
            raise UserError(f"--sweep.over={text}: {flag} stands there twice; write all its values together.")
        axes[flag] = found
    if not axes:
        raise UserError('--sweep.over is missing: write --sweep.over="optim.learning_rate=1e-3,1e-4 train.seed=0,1".')
    for flag in axes:
        group = flag.rpartition(".")[0]
        allowed = group not in ("output", "sweep") if group else flag in (*config.KINDS, "preset")
        if not allowed or flag in _ONE_PROCESS:
            raise UserError(f"--sweep.over={text}: {flag} cannot differ between the cells of a sweep.")
    return axes


def cells(
    axes: Mapping[str, Sequence[str]],
    argv: Sequence[str],
    *,
    groups: Mapping[str, type],
    folder: Path | None,
    publish: bool,
) -> list[Cell]:
    """Returns the cells of a grid, the last axis varying fastest; every flag is checked.

    Args:
        axes: flag -> values.
        argv: the command line; an axis beats a flag of it.
        groups: the program's own flag groups.
        folder: where the cells' run folders are; None: sweeps/NAME.
        publish: whether each cell exports its model.

    Raises:
        UserError: a cell is not an experiment, or two are the same.
    """
    found: dict[str, Cell] = {}
    shared = list(_without(argv, axes))
    for values in itertools.product(*axes.values()):
        given = [f"--{flag}={value}" for flag, value in zip(axes, values, strict=True)]
        parsed = flags.parse([*given, *shared], program="sweep", groups=groups)
        assert parsed.experiment is not None
        if not (parsed.flagfile or "output.name" in parsed.given):
            raise UserError("--output.name is missing: a sweep without a flag file needs a name.")
        rows = dict(record.to_rows(parsed.experiment))
        settings = {flag: rows.get(flag, value) for flag, value in zip(axes, values, strict=True)}
        name = _folder_name(settings)
        if name in found:
            raise UserError(f"--sweep.over: two cells are {name}; give each value once.")
        found[name] = Cell(name=name, experiment=_placed(parsed.experiment, name, folder, publish=publish))
    return list(found.values())


def parse_shard(text: str) -> tuple[int, int]:
    """Returns which shard and of how many: `2/4`.

    Raises:
        ValueError: it is not written so.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError("is not I/N with I from 1 to N, such as 1/4")
    return int(match[1]), int(match[2])


def _split(text: str, separators: str) -> Iterator[str]:
    """Yields the parts between separators that are outside of brackets; between spaces no empty ones."""
    depth, part = 0, ""
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        if character in separators and depth <= 0:
            if part or not separators.isspace():
                yield part
            part = ""
        else:
            part += character
    if depth:
        raise UserError(f"--sweep.over: {text} has a bracket without its other half.")
    if part or not separators.isspace():
        yield part


def _bare(value: str) -> str:
    whole = value.startswith("[") and value.endswith("]")
    return value[1:-1] if whole else value


def _without(argv: Sequence[str], axes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yields the command line without the flags of the grid, written as `--flag=value` or as `--flag value`."""
    waiting = iter(argv)
    for token in waiting:
        name, equals, _ = token.removeprefix("--").partition("=")
        if not (token.startswith("--") and name in axes):
            yield token
        elif not equals:
            following = next(waiting, "")
            if following.startswith("--"):  # the flag was a bare switch
                yield from _without([following, *waiting], axes)


def _folder_name(settings: Mapping[str, str]) -> str:
    whole = ",".join(f"{flag}={value}" for flag, value in settings.items())
    name = re.sub(r"[^\w.,=+-]+", "_", whole)
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{name.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _placed(experiment: Experiment, name: str, folder: Path | None, *, publish: bool) -> Experiment:
    output = experiment.output
    place = (folder or Path("sweeps") / output.name) / name
    return dataclasses.replace(
        experiment,
        output=dataclasses.replace(
            output, name=name, run_dir=str(place), model_dir=str(Path(output.model_dir) / name), if_exists="resume"
        ),
        export=experiment.export if publish else dataclasses.replace(experiment.export, publish=False, require=""),
    )
