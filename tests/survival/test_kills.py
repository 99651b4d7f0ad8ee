"""Killed at any moment and started again, a run ends as one that was never killed, to the bit."""

import json
import os
import signal

import killed_runs as runs
import pytest
from soak import soak

RUNS = int(os.environ.get("TFPT_SURVIVAL_RUNS", "10"))
FIRST = int(os.environ.get("TFPT_SURVIVAL_FIRST", "0"))
SMALL, LARGE = 4 * 2**20, 2**26
"""A disk that has room for a state of the second stage, but not for the next beside it; and one with room for all."""


def test_a_run_that_meets_a_full_disk_a_kill_and_sigterm_ends_bit_equal(survival):
    _, end = survival.whole("sample")
    start, run = survival.starter.start, survival.starter.disk / "run"
    flags, log = survival.flags["sample"], survival.starter.seen(run.with_suffix(".out"))

    def states():
        return sorted(f.name for f in survival.starter.seen(run / "checkpoints").iterdir())

    full = start(flags, run, disk=SMALL if survival.starter.has_disk else 2**20)
    assert (full["code"], full["signal"]) == (1, 0), log.read_text()
    assert "make room, and the same command goes on" in log.read_text() and "bug" not in log.read_text()
    kept = states()
    assert [name for name in kept if name.startswith(".")] == []
    if survival.starter.has_disk:
        assert "step-01-0000000000" in kept and "step-01-0000000002" not in kept

    killed = start(flags, run, disk=LARGE, kill={"event": 1, "of": "write", "after": 0.0})
    assert killed["signal"] == signal.SIGKILL and killed["events"][-2:] == ["save", "write"]
    assert any(name.startswith(".partial-") for name in states())

    stopped = start(flags, run, kill={"event": 0, "of": "batch", "after": 0.0, "signal": signal.SIGTERM})
    assert (stopped["code"], stopped["signal"]) == (75, 0)
    assert stopped["events"][-7:] == ["save", "write", *["sync"] * 5]
    assert json.loads(survival.starter.seen(run / "status.json").read_text())["state"] == "interrupted"

    assert start(flags, run)["code"] == 0, log.read_text()
    assert runs.differences(runs.end_of(survival.starter.seen(run)), end) == []


def test_nothing_stands_twice_in_the_tensorboard_log(survival):
    rows = survival.whole("sample")[1]["tensorboard"]
    assert len(rows) == len(set(rows)) > 10


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_killed_runs_end_bit_equal(tmp_path):
    """`soak.py` does as many as one likes, and goes on where it stopped."""
    found = soak(tmp_path, count=RUNS, first=FIRST)
    assert len(found) == RUNS and sum(len(one["kills"]) for one in found) >= RUNS // 2
    assert [(one["kind"], one["seed"], one["differences"]) for one in found if one["differences"]] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sigterm_in_an_evaluation_makes_it_again(survival):
    went, end = survival.whole("texts")
    run = survival.folder / "preempted"
    last = went["events"].count("evaluation") - 1
    kill = {"event": last, "of": "evaluation", "after": 0.0, "signal": signal.SIGTERM}
    assert survival.starter.start(survival.flags["texts"], run, kill=kill)["code"] == 75
    assert survival.starter.start(survival.flags["texts"], run)["code"] == 0
    assert runs.differences(runs.end_of(run), end) == []
