"""`tfpt launch` with programs that end as they are told; the real thing is in tests/survival."""

import os
import signal
import sys
import threading
import time

import pytest

from tfpt import app, launch

WORKER = """
import os, sys, time
from pathlib import Path
worker = next(a for a in sys.argv if a.startswith("--runtime.worker=")).partition("=")[2]
codes = next(a for a in sys.argv if a.startswith("--codes=")).partition("=")[2].split(";")
seen = Path(sys.argv[-3].partition("=")[2]) if sys.argv[-3].startswith("--seen=") else None
starts = seen / worker
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
mine = codes[min(len(starts.read_text()), len(codes)) - 1].split(",")[int(worker)]
if mine == "hang":
    time.sleep(100)
if mine == "killed":
    os.kill(os.getpid(), 9)
sys.exit(int(mine))
"""


@pytest.fixture
def start(monkeypatch, tmp_path, capsys):
    """`start(codes)` launches two workers whose exit codes are given by start and worker: `killed,hang;0,0`."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    real = launch.subprocess.Popen

    def popen(command, env):
        assert command[:4] == [sys.executable, "-m", "tfpt", "train"]
        return real([sys.executable, str(script), *command[4:]], env=env)

    monkeypatch.setattr(launch.subprocess, "Popen", popen)

    def start(codes, *options):
        with pytest.raises(SystemExit) as end:
            launch.main(["--launch.workers=2", *options, "--", "train", f"--codes={codes}", f"--seen={tmp_path}"])
        times = [len((tmp_path / k).read_text()) for k in "01"]
        return end.value.code, times, capsys.readouterr()

    return start


def test_all_end_well(start):
    code, times, printed = start("0,0")
    assert (code, times, printed.out) == (0, [1, 1], "")


@pytest.mark.parametrize("first", ["hang,killed", "killed,hang", "1,0", "75,75"])
def test_all_are_started_again_when_one_dies(start, first):
    code, times, printed = start(f"{first};0,0")
    assert (code, times) == (0, [2, 2])
    assert "A worker died; all are started again (1 of 3)" in printed.out


def test_the_tries_are_bounded(start):
    code, times, printed = start("1,1", "--launch.restarts=1")
    assert (code, times) == (1, [2, 2])
    assert "It died 2 times" in printed.out


@pytest.mark.parametrize("code", [2, 3, 130])
def test_a_mistake_is_not_tried_again(start, code):
    found, times, _ = start(f"{code},hang")
    assert (found, times) == (code, [1, 1])


def test_what_is_stopped_itself_starts_nothing_again(start, tmp_path):
    def stop():
        while not all((tmp_path / k).is_file() and (tmp_path / k).read_text() for k in "01"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    code, times, printed = start("hang,hang;0,0")
    assert (code, times) == (app.PREEMPTED, [1, 1])
    assert "started again" not in printed.out


def test_only_training_is_launched(capsys):
    with pytest.raises(SystemExit) as end:
        launch.main(["--launch.workers=2", "--", "evaluate"])
    assert end.value.code == 2
    assert "write tfpt launch --launch.workers=2 -- train --flagfile=FILE" in capsys.readouterr().err


def test_ports_are_free_and_different():
    assert len(set(launch.free_ports(5))) == 5
