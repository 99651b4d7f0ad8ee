"""Pictures from files to pixels: tfpt's input pipeline against bare libjpeg-turbo.

    python benchmarks/input_pipeline.py --peer_python=peers/bin/python --pictures="my photos"

tfpt: the host half (decode, EXIF orientation, antialiased resize, rounding) in its training batches. The peer: simplejpeg, which is
libjpeg-turbo with a thin skin, and Pillow's resize, antialiased as well, in as many threads: both let go of the interpreter's lock.
"scaled" lets libjpeg-turbo decode at a half, a quarter or an eighth where that is still larger than wanted, which is another picture.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from pictures import prepare
from section import table, write_section
from sides import answer, child

PEERS = ("decoded only", "decoded and resized", "scaled and resized")
OWN = ("pictures", "size", "batch", "threads", "rounds")


def files_of(given):
    """Returns the pictures' files."""
    return sorted(str(file) for file in Path(given.pictures).rglob("*") if file.is_file())


def timed(given, once):
    """Answers with pictures a second, after a first round."""
    count = len(files_of(given))
    rates = []
    for number in range(given.rounds + 1):
        started = time.perf_counter()
        once()
        if number:
            rates.append(count / (time.perf_counter() - started))
    return rates


def ours(given):
    """Measures tfpt's batches."""
    from tfpt import startup

    startup.start_tensorflow(given.threads)
    import numpy as np

    from tfpt import registry
    from tfpt.data.folder import Folder
    from tfpt.preprocessors.image import Image
    from tfpt.training.pipeline import Prepared, evaluation_batches
    from tfpt.training.plan import evaluation_plan

    folder = Path(given.pictures)
    classes = sorted(path.name for path in folder.iterdir())
    prepared = Prepared(Folder(given.pictures), [Image(size=given.size)], threads=given.threads)
    rows = evaluation_plan(np.arange(len(files_of(given))), batch_size=given.batch)
    task = registry.find("task", "image_classification")()
    batches = evaluation_batches(prepared, rows, task=task, state={"classes": classes, "counts": [1] * len(classes)})
    answer({"rates": timed(given, lambda: [None for _ in batches])})


def peer(given):
    """Measures simplejpeg."""
    import simplejpeg
    from PIL import Image

    def read(path):
        data = Path(path).read_bytes()
        smallest = {"min_height": given.size, "min_width": given.size} if given.side == "scaled and resized" else {}
        pixels = simplejpeg.decode_jpeg(data, **smallest)
        if given.side != "decoded only":
            Image.fromarray(pixels).resize((given.size, given.size), Image.Resampling.BILINEAR)

    files = files_of(given)
    with ThreadPoolExecutor(given.threads) as threads:
        answer({"rates": timed(given, lambda: list(threads.map(read, files, chunksize=8)))})


def main():
    """Runs the rounds and writes the section, or one side of one round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", help="a Python that has simplejpeg and Pillow")
    parser.add_argument("--pictures", default="", help="folder with a folder of JPEGs for each class")
    parser.add_argument("--generated", type=int, default=1000, help="JPEGs to generate when there is no folder")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="rounds of a process")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each side")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        (ours if given.side == "tfpt" else peer)(given)
        return
    import tempfile

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        name = Path(given.pictures).name or "generated JPEGs"
        given.pictures, count = prepare(given.pictures, Path(folder), generated=given.generated)
        given.pictures += "/train"
        count = len(files_of(given))
        own = [f"--{option}={getattr(given, option)}" for option in OWN]
        for _ in range(given.repeats):
            found.setdefault("tfpt", []).append(median(child(__file__, ["--side=tfpt", *own])["rates"]))
            for side in PEERS:
                got = child(__file__, [f"--side={side}", *own], python=given.peer_python)
                found.setdefault(f"simplejpeg, {side}", []).append(median(got["rates"]))
            print(found, flush=True)
    share = median(found["tfpt"]) / median(found["simplejpeg, decoded and resized"])
    lines = [
        f"{count:,} pictures ({name}) to {given.size} pixels, {given.threads} threads; a value is the median of {given.rounds} rounds of a process.",
        "",
        f"**tfpt / simplejpeg with Pillow's resize = {share:.2f}.**",
        "",
        *table(found, unit="pictures/s", digits=0),
    ]
    write_section("Input pipeline", lines, packages=("tensorflow",))


if __name__ == "__main__":
    main()
