"""`tfpt launch` with programs that end as they are told; the real thing is in tests/survival."""

import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tfpt import app, launch

WORKER = """
import os, signal, sys, time
from pathlib import Path
worker = next(a for a in sys.argv if a.startswith("--runtime.worker=")).partition("=")[2]
codes = next(a for a in sys.argv if a.startswith("--codes=")).partition("=")[2].split(";")
seen = Path(sys.argv[-3].partition("=")[2]) if sys.argv[-3].startswith("--seen=") else None
starts = seen / worker
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
mine = codes[min(len(starts.read_text()), len(codes)) - 1].split(",")[int(worker)]
other = seen / "1"
while worker == "0" and not (other.exists() and len(other.read_text()) >= len(starts.read_text())):
    time.sleep(0.02)  # the launcher stops the others when the first has ended
if mine == "hang":
    time.sleep(100)
if mine == "save" or mine == "deaf":
    def asked(number, frame):
        os.write(1, f"{worker} got {number}\\n".encode())
        if mine == "save":
            sys.exit({2: 130, 15: 75}[number])
    for number in (2, 15):
        signal.signal(number, asked)
    (seen / f"{worker}-ready").touch()
    while True:
        time.sleep(0.05)
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

    def popen(command, env, process_group):
        assert command[:4] == [sys.executable, "-m", "tfpt", "train"] and process_group == 0
        with (tmp_path / "said").open("a") as said:
            return real([sys.executable, str(script), *command[4:]], env=env, process_group=0, stdout=said)

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


@pytest.fixture
def signals(tmp_path):
    """`signals(SIGINT)` sends that to this process when both workers listen."""

    def send(*numbers):
        def wait_and_send():
            while not all((tmp_path / f"{k}-ready").exists() for k in "01"):
                time.sleep(0.05)
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.5)

        threading.Thread(target=wait_and_send, daemon=True).start()

    return send


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, app.STOPPED),
        (signal.SIGTERM, app.PREEMPTED),
        (signal.SIGHUP, app.PREEMPTED),
        (signal.SIGQUIT, app.PREEMPTED),
    ],
)
def test_what_stops_the_launcher_stops_the_workers_once_and_nothing_is_started_again(
    start, signals, tmp_path, number, code
):
    signals(number)
    found, times, printed = start("save,save;0,0")
    assert (found, times) == (code, [1, 1])
    got = 2 if number == signal.SIGINT else 15
    assert sorted((tmp_path / "said").read_text().splitlines()) == [f"0 got {got}", f"1 got {got}"]
    assert "The workers have stopped and saved where they were." in printed.out
    assert "started again" not in printed.out


def test_a_second_ctrl_c_kills_workers_that_do_not_stop(start, signals, tmp_path):
    signals(signal.SIGINT, signal.SIGINT)
    before = time.monotonic()
    code, times, printed = start("deaf,deaf;0,0")
    assert (code, times) == (app.STOPPED, [1, 1])
    assert time.monotonic() - before < launch.SECONDS_TO_STOP
    assert (tmp_path / "said").read_text().count("got 2") == 2
    assert "The workers were killed; the same command goes on from their last checkpoint" in printed.out


def test_workers_that_do_not_stop_in_time_are_ended_and_that_is_said(start, signals, monkeypatch):
    monkeypatch.setattr(launch, "SECONDS_TO_SAVE", 0.2)
    monkeypatch.setattr(launch, "SECONDS_TO_STOP", 0.2)
    signals(signal.SIGINT)
    code, times, printed = start("deaf,deaf;0,0")
    assert (code, times) == (app.STOPPED, [1, 1])
    assert "did not save where they were" in printed.out


@pytest.mark.parametrize(("first", "found"), [(0, 0), (None, 75), (2, 2)])
def test_the_first_workers_word_counts_most(monkeypatch, first, found):
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: None)
    codes = iter([None, first])
    workers = [SimpleNamespace(poll=lambda: next(codes)), SimpleNamespace(poll=lambda: 75)]
    assert launch._first_end(workers) == found


@pytest.mark.parametrize("value", ["new", "fail"])
def test_what_would_not_go_on_is_refused(value, capsys):
    with pytest.raises(SystemExit) as end:
        launch.main(["--launch.workers=2", "--", "train", f"--output.if_exists={value}"])
    assert end.value.code == 2
    assert f"--output.if_exists={value}: workers that are started again go on" in capsys.readouterr().err


def test_only_training_is_launched(capsys):
    with pytest.raises(SystemExit) as end:
        launch.main(["--launch.workers=2", "--", "evaluate"])
    assert end.value.code == 2
    assert "write tfpt launch --launch.workers=2 -- train --flagfile=FILE" in capsys.readouterr().err


def test_ports_are_free_and_different():
    assert len(set(launch.free_ports(5))) == 5
