"""Kills many runs at random moments and writes down, line by line, when, and whether each ended as one never killed.

    python tests/survival/soak.py --folder=/tmp/soak --runs=100

Started again with the same folder it goes on with the seeds that are missing. Exit code 1 where a run ended otherwise.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import killed_runs as runs

OUTCOMES = "outcomes.jsonl"
"""In the folder: a line a run, `{"kind", "seed", "kills": [{"event", "after", "last"}], "differences": [], "seconds"}`."""


class Soak:
    """Runs of every kind, and what they must be equal to.

    Args:
        folder: for data and runs, and for the outcomes.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        pictures, texts = self.folder / "pictures", self.folder / "texts.csv"
        if not pictures.is_dir():
            _write_pictures(pictures)
        runs.write_texts(texts)
        self.flags = {
            kind: [flag.format(pictures=pictures, texts=texts) for flag in flags]
            for kind, flags in {**runs.FLAGS, "sample": runs.SAMPLE}.items()
        }
        self.starter = runs.Starter(self.folder)
        self._whole = {}

    def close(self):
        self.starter.close()

    def whole(self, kind):
        """Returns how a run that was never killed went, and its end; it is made when first asked for."""
        if kind not in self._whole:
            run, known = self.folder / "whole" / kind, self.folder / f"{kind}.json"
            if not known.is_file():
                runs.remove(run)
                went = self.starter.start(self.flags[kind], run)
                assert went["code"] == 0, run.with_suffix(".out").read_text()
                known.write_text(json.dumps(went))
            self._whole[kind] = json.loads(known.read_text()), runs.end_of(run)
        return self._whole[kind]

    def outcome(self, kind, seed):
        """Kills one run at the moments of its seed and tells how it ended; where all is well its folder is removed."""
        started = time.monotonic()
        went, end = self.whole(kind)
        run = self.folder / kind / str(seed)
        runs.remove(run)
        kills = runs.killed_until_it_ends(self.starter, self.flags[kind], run, seed=seed, whole=went)
        different = runs.differences(runs.end_of(run), end)
        if not different:
            runs.remove(run)
        seconds = round(time.monotonic() - started, 1)
        return {"kind": kind, "seed": seed, "kills": kills, "differences": different, "seconds": seconds}


def _write_pictures(folder):
    """Writes those that all tests have, whose file has a name that others have too."""
    spec = importlib.util.spec_from_file_location("shared_fixtures", Path(__file__).parents[1] / "conftest.py")
    shared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared)
    shared.write_pictures(folder)


def soak(folder, *, count, first=0, minutes=float("inf")):
    """Makes so many runs, half of each kind, with the seeds from `first` on; those in the folder's outcomes are not repeated.

    Returns:
        All outcomes of these seeds; fewer when the minutes are over.
    """
    started = time.monotonic()
    file = Path(folder) / OUTCOMES
    wanted = [(kind, seed) for seed in range(first, first + count // len(runs.FLAGS)) for kind in runs.FLAGS]
    lines = map(json.loads, file.read_text().splitlines()) if file.is_file() else ()
    known = {(one["kind"], one["seed"]): one for one in lines}
    made = Soak(folder)
    try:
        for kind, seed in wanted:
            if (kind, seed) not in known and time.monotonic() - started < 60 * minutes:
                known[kind, seed] = made.outcome(kind, seed)
                with file.open("a") as lines:
                    lines.write(json.dumps(known[kind, seed]) + "\n")
    finally:
        made.close()
    return [known[one] for one in wanted if one in known]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="first seed of each kind")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no more runs after so many")
    options = parser.parse_args()
    found = soak(options.folder, count=options.runs, first=options.first, minutes=options.minutes)
    for kind in runs.FLAGS:
        ours = [one for one in found if one["kind"] == kind]
        equal = sum(not one["differences"] for one in ours)
        kills = [kill for one in ours for kill in one["kills"]]
        print(f"{kind}: {len(ours)} runs, {len(kills)} kills, {equal} ended bit-equal")
        for one in ours:
            if one["differences"]:
                print(f"  seed {one['seed']}: {one['differences']}")
    sys.exit(any(one["differences"] for one in found))


if __name__ == "__main__":
    main()
