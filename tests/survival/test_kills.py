"""Killed with -9 at random moments and started again, a run ends as one that was never killed, to the bit."""

import json
import os
import signal

import killed_runs as runs
import pytest

RUNS = int(os.environ.get("TFPT_SURVIVAL_RUNS", "100"))
FIRST = int(os.environ.get("TFPT_SURVIVAL_FIRST", "0"))
SAMPLE = {"images": (1,), "texts": (2,)}
"""Seeds of the runs that are killed in every test run."""


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    starter = runs.Starter(tmp_path_factory.mktemp("survival"))
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def flags(pictures, starter):
    texts = runs.write_texts(starter.folder / "texts.csv")
    return {
        kind: [flag.format(pictures=pictures, texts=texts) for flag in wanted] for kind, wanted in runs.FLAGS.items()
    }


@pytest.fixture(scope="module")
def whole(starter, flags):
    """Runs that were never killed, by kind: how they went, and their ends."""
    known = {}

    def whole(kind):
        if kind not in known:
            run = starter.folder / "whole" / kind
            went = starter.start(flags[kind], run)
            assert went["code"] == 0, run.with_suffix(".out").read_text()
            known[kind] = went, runs.end_of(run)
        return known[kind]

    return whole


def assert_survives(kind, seed, starter, flags, whole):
    went, end = whole(kind)
    run = starter.folder / kind / str(seed)
    hits = runs.killed_until_it_ends(starter, flags[kind], run, seed=seed, whole=went)
    print(json.dumps({"kind": kind, "seed": seed, "kills": hits}))
    assert runs.differences(runs.end_of(run), end) == []
    return hits


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, seeds in SAMPLE.items() for seed in seeds])
def test_a_sample_of_killed_runs_ends_bit_equal(kind, seed, starter, flags, whole):
    assert assert_survives(kind, seed, starter, flags, whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", runs.FLAGS)
@pytest.mark.timeout(0)
def test_many_killed_runs_end_bit_equal(kind, starter, flags, whole):
    seeds = range(FIRST, FIRST + RUNS // len(runs.FLAGS))
    assert sum(len(assert_survives(kind, seed, starter, flags, whole)) for seed in seeds) >= len(seeds)


def test_nothing_stands_twice_in_the_tensorboard_log(whole):
    rows = whole("images")[1]["tensorboard"]
    assert len(rows) == len(set(rows)) > 10


def test_sigterm_saves_and_ends_with_75_and_the_same_command_goes_on(starter, flags, whole):
    went, end = whole("images")
    run = starter.folder / "preempted"
    for number, event in enumerate(("batch", "evaluation")):
        at = [k for k, name in enumerate(went["events"]) if name == event][-1 - number]
        stopped = starter.start(flags["images"], run, kill={"event": at, "after": 0, "signal": signal.SIGTERM})
        if not number:
            assert (stopped["code"], stopped["signal"]) == (75, 0)
            assert stopped["events"][-6:] == ["save", "write", "sync", "sync", "sync", "sync"]
            assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert starter.start(flags["images"], run)["code"] == 0
    ours = runs.end_of(run)
    assert runs.differences(ours, end) == []


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_when_there_is_room(starter, flags, whole):
    _, end = whole("images")
    run = starter.folder / "full"
    # The state of the head is smaller than the largest file that can be written, that of the second stage is not.
    stopped = starter.start(flags["images"], run, largest_file=2**20)
    said = run.with_suffix(".out").read_text()
    assert (stopped["code"], stopped["signal"]) == (1, 0)
    assert "make room, and the same command goes on" in said and "bug" not in said
    assert {f.name[:7] for f in (run / "checkpoints").iterdir()} == {"best-00", "carried", "step-00"}
    assert starter.start(flags["images"], run)["code"] == 0
    assert "fine_tune" in run.with_suffix(".out").read_text()
    assert runs.differences(runs.end_of(run), end) == []
