"""Looks for a learning rate: trains a few steps while it grows, and draws the loss over it.

Where the loss falls fastest is a good learning rate; where it is lowest is too high already. Nothing of the training is
kept, and the run folder of the experiment is left alone.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfpt import app, flags
from tfpt.config import check, setting
from tfpt.console import Console

PROGRAM = "Look for a learning rate: a range test, with its figure."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `find_lr`."""

    stage: str = setting(
        "auto",
        "What it is looked for: head, fine_tune (after the head was trained as in a run), or auto: the second where there is one.",
        choices=("auto", "head", "fine_tune"),
    )
    lowest: float = setting(1e-6, "Learning rate of the first step.")
    highest: float = setting(1.0, "Learning rate of the last step, unless the loss diverges before.")
    steps: int = setting(100, "How many steps.")
    output: str = setting("", "Folder for the figure and its numbers; default: find_lr/NAME.")

    def __post_init__(self) -> None:
        check(self.lowest > 0, f"lowest: {self.lowest} is not positive")
        check(self.lowest < self.highest, f"highest: {self.highest} is not above --find_lr.lowest={self.lowest}")
        check(self.steps >= 10, f"steps: {self.steps} is not at least 10")


GROUPS = {"find_lr": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _find_lr,
        program="find-lr",
        about=__doc__ or "",
        example="tfpt find-lr --task=image_classification --data=digits --backbone=efficientnet_lite:lite0",
        groups=GROUPS,
        argv=argv,
    )


def _find_lr(parsed: flags.Parsed, console: Console) -> None:
    assert parsed.experiment is not None
    experiment, options = parsed.experiment, parsed.options["find_lr"]
    app.start_tensorflow(experiment.runtime.threads)
    from tfpt.evaluation.range_figure import range_figure
    from tfpt.training.range_test import range_test
    from tfpt.training.setting import set_up
    from tfpt.weights.fetch import fetch

    setting = set_up(experiment, console=console, offline=parsed.offline)
    for backbone in setting.backbones.values():
        for name in backbone.weight_files():
            fetch(name, offline=parsed.offline, console=console)
    found = range_test(
        setting,
        stage=options.stage,
        lowest=options.lowest,
        highest=options.highest,
        steps=options.steps,
        console=console,
    )
    folder = Path(options.output or Path("find_lr") / experiment.output.name)
    svg, png = range_figure(found.rates, found.losses, found.smoothed, chosen=found.steepest)
    rows = zip(found.rates, found.losses, found.smoothed, strict=True)
    table = "".join(f"{rate:.6g},{loss:.6g},{smooth:.6g}\n" for rate, loss, smooth in rows)
    folder.mkdir(parents=True, exist_ok=True)
    csv = "learning_rate,loss,smoothed\n" + table
    for kind, content in (("svg", svg.encode()), ("png", png), ("csv", csv.encode())):
        partial = folder / f".partial-{os.getpid()}.{kind}"
        partial.write_bytes(content)
        partial.replace(folder / f"learning_rate.{kind}")
    console.say(
        f"The loss of {found.stage} falls fastest at {found.steepest:.1e}, and is lowest at {found.lowest:.1e}."
    )
    console.say(f"Try --{found.flag}={found.steepest:.1e}; the figure is {folder / 'learning_rate.png'}.")
    if parsed.json:
        print(
            json.dumps({"stage": found.stage, "flag": found.flag, "steepest": found.steepest, "lowest": found.lowest})
        )


if __name__ == "__main__":
    main()
