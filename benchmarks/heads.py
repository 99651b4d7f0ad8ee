"""Ten settings of a head, one after the other, on features that are computed once, against one setting without that.

    python benchmarks/heads.py --pictures="my photos"

Both sides are `tfpt.fit` in one process with an empty cache: ten runs with other learning rates, and one with
--input.feature_cache=off, which runs the frozen trunk in each epoch. Seconds are of the calls: data, training, measuring and
report, everything but the import.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from pictures import prepare
from section import table, write_section
from sides import answer, child

OWN = ("pictures", "backbone", "epochs", "engine")
SETTINGS = 10


def run(given):
    """Trains a side; answers with the seconds of each run."""
    from tfpt import startup

    startup.start_tensorflow()
    import tfpt

    ten = given.side == "ten"
    rates = [1e-3 * 2 ** (k / 2 - 2) for k in range(SETTINGS)] if ten else [1e-3]
    seconds, accuracies = [], []
    for number, rate in enumerate(rates):
        started = time.monotonic()
        made = tfpt.fit(
            task="image_classification",
            data=f"folder:{given.pictures}",
            backbone=given.backbone,
            quiet=True,
            head_epochs=given.epochs,
            epochs=0,
            augment="none",
            head_learning_rate=rate,
            engine=given.engine,
            feature_cache="auto" if ten else "off",
            publish=False,
            output={"run_dir": f"{given.work}/run{number}", "model_dir": f"{given.work}/models"},
        )
        seconds.append(time.monotonic() - started)
        accuracies.append(made.metrics["test"]["accuracy"]["value"])
    answer({"seconds": seconds, "accuracies": accuracies})


def main():
    """Runs the rounds and writes the section, or one side of one round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", default="", help="folder with a folder of JPEGs for each class")
    parser.add_argument("--generated", type=int, default=2000, help="JPEGs to generate when there is no folder")
    parser.add_argument("--backbone", default="efficientnet_lite:lite0")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run(given)
        return
    found = {"ten": [], "one": []}
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        name = Path(given.pictures).name or "generated JPEGs"
        given.pictures, count = prepare(given.pictures, Path(folder), generated=given.generated)
        for _ in range(given.rounds):
            for side, totals in found.items():
                own = [f"--{option}={getattr(given, option)}" for option in OWN]
                got = child(__file__, [f"--side={side}", *own])
                totals.append(sum(got["seconds"]))
                print(side, got, flush=True)
                if side == "ten":
                    runs.append(got["seconds"])
    ratio = median(found["ten"]) / median(found["one"])
    first, later = median([one[0] for one in runs]), median([s for one in runs for s in one[1:]])
    lines = [
        f"{count:,} pictures ({name}), {given.backbone}, {given.epochs} epochs, engine {given.engine}.",
        "",
        f"**Ten settings with the cache / one setting without = {ratio:.2f}** (the first of the ten takes {first:.1f} s, the others "
        f"{later:.1f} s each).",
        "",
        *table(
            {
                "ten settings, features computed once": found["ten"],
                "one setting, --input.feature_cache=off": found["one"],
            },
            unit="s",
        ),
    ]
    write_section(
        f"Ten heads on one feature cache, {given.epochs} epochs", lines, packages=("tensorflow", "keras", "openvino")
    )


if __name__ == "__main__":
    main()
