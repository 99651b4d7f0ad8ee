"""Ten times the data: time grows as much, and memory does not.

    python benchmarks/growth.py --count=10000

Trains a head on a frozen trunk on generated JPEGs, once on so many and once on ten times as many, each in a process of its own with an
empty cache. Peak memory is the process's own (maximum resident set); the features that it keeps count, and their size is told. Examples
are not kept in memory (`--input.cache=off`).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from pictures import generate
from section import write_section
from sides import answer, child

OWN = ("pictures", "backbone", "size", "epochs")


def run(given):
    """Trains once."""
    from tfpt import startup

    startup.start_tensorflow()
    import tfpt

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before, started = peak(), time.monotonic()
    made = tfpt.fit(
        task="image_classification",
        data=f"folder:{given.pictures}",
        backbone=given.backbone,
        quiet=True,
        image_size=given.size,
        head_epochs=given.epochs,
        epochs=0,
        augment="none",
        cache="off",
        publish=False,
        output={"run_dir": f"{given.work}/run", "model_dir": f"{given.work}/models"},
    )
    seconds = time.monotonic() - started
    kept = sum(file.stat().st_size for file in (Path(given.work) / "home" / "features").rglob("*") if file.is_file())
    accuracy = made.metrics["test"]["accuracy"]["value"]
    answer({"seconds": seconds, "import": before, "peak": peak(), "features": kept, "accuracy": accuracy})


def main():
    """Runs both sizes and writes the section, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="JPEGs of the smaller data")
    parser.add_argument("--backbone", default="efficientnet_lite:lite0")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pictures", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        run(given)
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (given.count, 10 * given.count):
            given.pictures = str(generate(Path(folder) / str(count), count, height=96, width=128))
            rows[count] = child(__file__, [f"--{option}={getattr(given, option)}" for option in OWN])
            print(count, rows[count], flush=True)
    small, large = rows.values()
    lines = [
        f"JPEGs of 96 x 128 pixels, {given.backbone} at {given.size} pixels, {given.epochs} epochs, engine auto, examples not kept in memory, one run of each size.",
        "",
        f"**Ten times the data: {large['seconds'] / small['seconds']:.1f} times the seconds, {large['peak'] / small['peak']:.2f} times the peak memory.**",
        "",
        "| JPEGs | seconds | peak memory, MiB | of that after the import | features kept, MiB | test accuracy |",
        "|---|---|---|---|---|---|",
        *(
            f"| {count:,} | {row['seconds']:.1f} | {row['peak'] / 2**20:,.0f} | {(row['peak'] - row['import']) / 2**20:,.0f} | "
            f"{row['features'] / 2**20:,.0f} | {row['accuracy']:.4f} |"
            for count, row in rows.items()
        ),
    ]
    write_section("Ten times the data", lines, packages=("tensorflow", "keras", "openvino"))


if __name__ == "__main__":
    main()
