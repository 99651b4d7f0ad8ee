import io
import re
import sys
import types

import pytest

from tfpt.console import Console, table_text


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_what_is_said_is_logged_with_the_time(tmp_path):
    stream = io.StringIO()
    console = Console(stream=stream)
    console.say("before the log")
    console.set_log(tmp_path / "run" / "log.txt")
    console.say("two\nlines \udce4")
    console.warn("look")
    assert stream.getvalue() == "before the log\ntwo\nlines \udce4\nwarning: look\n"
    lines = (tmp_path / "run" / "log.txt").read_text("utf-8").splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["before the log", "two", r"lines \udce4", "warning: look"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d ", line) for line in lines)


def test_a_log_is_appended_to(tmp_path):
    for text in ("one", "two"):
        Console(log=tmp_path / "log.txt", stream=io.StringIO()).say(text)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


def test_quiet_shows_warnings_only(tmp_path):
    stream = io.StringIO()
    console = Console(log=tmp_path / "log.txt", quiet=True, stream=stream)
    console.say("said")
    with console.track("Reading", 1, "files") as track:
        track.advance()
    console.warn("look")
    assert stream.getvalue() == "warning: look\n"
    assert "Reading  1/1 files" in (tmp_path / "log.txt").read_text()


def test_without_a_terminal_a_line_every_ten_seconds_and_the_last(tmp_path):
    stream, clock = io.StringIO(), Clock()
    console = Console(log=tmp_path / "log.txt", stream=stream, clock=clock)
    with console.training("head", epochs=2, steps=100) as training:
        for step in range(1, 101):
            clock.now = step * 0.25
            metric = ("accuracy", 0.9) if step > 50 else None
            training.update(epoch=step / 50, step=step, loss=1 / step, metric=metric, examples_per_second=1234.5)
        console.say("in between")
    expected = [
        "head  epoch 0.0/2  step 1/100  loss 1.0000  1,234 examples/s",
        "head  epoch 0.8/2  step 41/100  loss 0.0244  1,234 examples/s  0:15 left",
        "head  epoch 1.6/2  step 81/100  loss 0.0123  accuracy 0.9000  1,234 examples/s  0:05 left",
        "in between",
        "head  epoch 2.0/2  step 100/100  loss 0.0100  accuracy 0.9000  1,234 examples/s",
    ]
    assert stream.getvalue().splitlines() == expected
    assert [line.partition(" ")[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == expected


def test_the_last_line_is_not_said_twice():
    stream = io.StringIO()
    with Console(stream=stream).training("head", epochs=1, steps=1) as training:
        training.update(epoch=1, step=1, loss=0.5)
    assert stream.getvalue().count("\n") == 1


def test_a_block_that_fails_leaves_a_usable_console():
    stream = io.StringIO()
    console = Console(stream=stream)
    with pytest.raises(KeyError), console.track("Reading", 2, "files") as track:
        track.advance()
        raise KeyError
    console.say("after")
    assert stream.getvalue().splitlines() == ["Reading  0/2 files", "Reading  1/2 files", "after"]


def test_in_a_terminal_one_live_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    stream, clock = Terminal(), Clock()
    console = Console(stream=stream, clock=clock)
    with console.track("Reading [bold]x[/bold]", 3, "files") as track:
        for _ in range(3):
            clock.now += 1
            track.advance()
        console.say("a [tag] above")
    shown = stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "Reading [bold]x[/bold]  2/3 files" in plain
    assert "a [tag] above" in plain
    assert plain.splitlines()[-1].endswith("Reading [bold]x[/bold]  3/3 files")
    assert "\x1b[2K" in shown  # the line was erased, not repeated
    assert shown.endswith("files\n")


def test_in_a_notebook_one_line_is_overwritten(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    clock = Clock()
    console = Console(clock=clock)
    with console.track("Reading", 2, "files") as track:
        for _ in range(2):
            clock.now += 1
            track.advance()
        console.say("above")
    out = capsys.readouterr().out
    assert out.endswith("\rReading  2/2 files\n")
    assert out.count("\n") == 2
    assert "\rabove\n" in out


def test_a_table_is_aligned_and_knows_no_markup():
    text = table_text(["name", "n", "share"], [["[red]x[/red]", 5, 0.5], ["日本", 12, 0.25], ["a\nb", 7, 0.125]])
    assert text.splitlines() == [
        "name           n   share",
        "------------  --  ------",
        "[red]x[/red]   5  0.5000",
        "日本          12  0.2500",
        "a b            7  0.1250",
    ]
    assert table_text(["a", "b"], []).splitlines() == ["a  b", "-  -"]
