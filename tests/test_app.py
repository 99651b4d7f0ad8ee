import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tfpt import app, config
from tfpt.console import Console
from tfpt.errors import GateError, OutsideError, Preempted, UserError

OPTIONS = {
    "program": "train",
    "about": "Does a thing.\n\nMore about it.",
    "example": "tfpt train --x",
    "need_experiment": False,
}


@pytest.fixture
def start(capsys):
    """Runs a program in this process; returns exit code, standard output, standard error."""

    def start(main, *argv, **options):
        with pytest.raises(SystemExit) as ended:
            app.run(main, argv=argv, **{**OPTIONS, **options})
        return ended.value.code, *capsys.readouterr()

    return start


def failing(error):
    def main(parsed, console):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("--x=1 is not 2."), 2, "tfpt: --x=1 is not 2.\n"),
        (OutsideError("the disk is full."), 1, "tfpt: the disk is full.\n"),
        (GateError("accuracy is 0.5."), 3, "tfpt: accuracy is 0.5.\n"),
        (KeyboardInterrupt(), 130, "tfpt: interrupted\n"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "tfpt: runs/x: Permission denied.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "tfpt: runs/x: No space left on device.\n"),
    ],
)
def test_errors_are_one_sentence_and_a_code(start, error, code, sentence):
    assert start(failing(error)) == (code, "", sentence)
    debugged = start(failing(error), "--debug")
    assert debugged[0] == code
    assert debugged[2].startswith("Traceback")
    assert debugged[2].endswith(sentence)


def test_a_bug_says_where_its_traceback_is(start, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = start(failing(ZeroDivisionError("by zero\nsecond line")))
    assert (code, out) == (1, "")
    match = re.fullmatch(
        r"tfpt: this is a bug in tfpt.*\(ZeroDivisionError: by zero\); the traceback is in (.*)\.\n", err
    )
    assert "Traceback" in Path(match[1]).read_text()
    assert "second line" in Path(match[1]).read_text()
    code, out, err = start(failing(ZeroDivisionError("by zero")), "--debug")
    assert err.startswith("Traceback")
    assert err.endswith("the traceback is above.\n")


def test_a_bug_during_a_run_goes_to_its_log(start, tmp_path):
    def main(parsed, console):
        console.set_log(tmp_path / "log.txt")
        raise ZeroDivisionError

    assert str(tmp_path / "log.txt") in start(main)[2]
    assert "ZeroDivisionError" in (tmp_path / "log.txt").read_text()


def test_exit_codes_and_the_console(start):
    assert start(lambda parsed, console: console.say("hello")) == (0, "hello\n", "")
    assert start(lambda parsed, console: console.say("hello"), "--json") == (0, "", "hello\n")
    assert start(lambda parsed, console: 7)[0] == 7


def test_a_wrong_flag_ends_before_the_program(start):
    code, out, err = start(failing(AssertionError()), "--lr=3")
    assert (code, out, err) == (2, "", "tfpt: --lr: there is no such flag; write --optim.learning_rate.\n")


def test_help_teaches(start, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, page, _ = start(
        failing(AssertionError()),
        "--task=image_classification",
        "--help",
        groups={"export_to": config.Runtime},
        positional="PATH...",
    )
    assert code == 0
    lines = page.splitlines()
    assert lines[0] == "tfpt train [--flag=value ...] PATH..."
    assert lines[2:5] == ["Does a thing.", "", "More about it."]
    assert "  tfpt train --x" in lines
    assert "  --optim.learning_rate=0.001" in lines
    assert "  --task.dropout=0.0" in lines
    assert "  --export_to.threads=0" in lines
    assert "  --dry_run" in lines
    assert page.index("\nexport_to:") < page.index("\ntask:") < page.index("\ninput:")
    assert re.search(r"--task= +image_classification", page)
    assert max(len(line) for line in lines if " " in line.strip()) <= 60  # one long value cannot be broken


CLOSED = """
import sys
from tfpt import app, errors
def main(parsed, console):
    with console.track("Waiting", 2, "things") as track:
        sys.stdin.readline()
        console.say("x" * 10000)
        track.advance()
    raise errors.Preempted
app.run(main, program="train", about="", example="", need_experiment=False, argv=[])
"""


def test_a_terminal_that_was_closed_takes_nothing_with_it():
    ours, theirs = os.openpty()
    running = subprocess.Popen([sys.executable, "-c", CLOSED], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"Waiting" not in said:
        said += os.read(ours, 1000)
    os.close(ours)
    running.communicate(b"\n", timeout=60)
    assert running.returncode == app.PREEMPTED


def tfpt(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tfpt", *arguments],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_the_dispatcher():
    overview = tfpt().stdout.decode()
    assert re.search(r"^  train +Train", overview, re.MULTILINE)
    assert tfpt("--help").stdout.decode() == overview
    assert tfpt("--version").stdout.startswith(b"tfpt 0.")
    typo = tfpt("tarin")
    assert (typo.returncode, typo.stderr.endswith(b"Did you mean train?\n")) == (2, True)
    assert tfpt("app").returncode == 2  # not a program
    assert b"tfpt train --lr=3" in tfpt("--lr=3").stderr
    assert tfpt("train", "--lr=3").returncode == 2


def test_a_program_runs_by_its_module_too():
    ran = subprocess.run([sys.executable, "-m", "tfpt.list", "tasks"], capture_output=True, check=False)
    assert ran.returncode == 0
    assert b"image_classification" in ran.stdout


def test_a_reader_that_stops_early_is_no_error():
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tfpt list weights | true; {sys.executable} -m tfpt train --help | true"],
        capture_output=True,
        check=False,
    )
    assert ran.stderr == b""


def test_an_ascii_locale_can_name_everything():
    ran = tfpt("list", "Tübingen", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert ran.returncode == 2
    assert b"there is no such kind" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_what_sigterm_stopped_says_so(capsys):
    assert app._report(Preempted(), Console(), debug=False) == app.PREEMPTED
    assert capsys.readouterr().err == "tfpt: stopped by SIGTERM; the same command goes on from here\n"
