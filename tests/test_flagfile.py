import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfpt import flagfile
from tfpt.errors import UserError


def values(path):
    return {name: given.value for name, given in flagfile.read(path).items()}


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(tmp_path, line):
    path = write(tmp_path / "x.flags", f"# first\n{line}\n")
    with pytest.raises(UserError) as caught:
        flagfile.read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bom_crlf_comments_and_blank_lines_are_harmless(tmp_path):
    path = write(
        tmp_path / "x.flags", "\ufeff--data=folder:Tübingen\r\n\r\n  # a comment\r\n--dry_run\r\n--input.group=\r\n"
    )
    assert values(path) == {"data": "folder:Tübingen", "dry_run": None, "input.group": ""}
    assert flagfile.read(path)["dry_run"].source == f"{path}:4"


def test_is_utf8_in_a_c_locale(tmp_path):
    path = write(tmp_path / "ü.flags", "--data=folder:Tübingen\n")
    code = f"from tfpt import flagfile; from pathlib import Path; print(ascii(flagfile.read(next(Path({str(tmp_path)!r}).glob('*.flags')))['data'].value))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ascii("folder:Tübingen")
    assert path.exists()


def test_a_byte_that_is_not_utf8_is_named(tmp_path):
    path = write(tmp_path / "x.flags", b"--task=a\r\n--data=folder:T\xfcbingen\n")
    with pytest.raises(UserError, match=r"x\.flags:2: byte 0xfc is not UTF-8"):
        flagfile.read(path)


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("--train.epochs=5 # five", "write --train.epochs=5 "),
        ("--dry_run  # yes", "write --dry_run "),
        ('--data="my photos"', "write --data=my photos"),
        ("--data='my photos'", "write --data=my photos"),
        ('--data=folder:"my photos"', "write --data=folder:my photos"),
        ('"--data=my photos"', "write --data=my photos"),
        ("--train.epochs 5", "write --train.epochs=5"),
        ("--train.epochs = 5", "write --train.epochs=5"),
        ("--train.epochs= 5", "write --train.epochs=5"),
        ("-train.epochs=5", "write --train.epochs=5"),
        ("train.epochs: 5", "write --train.epochs=5"),
        ("--data=$TFPT_NOT_SET/x", "TFPT_NOT_SET is not set"),
        ("--data=${}/x", "variable"),
        ("--flagfile=nowhere.flags", "no such file"),
        ("--flagfile", "--flagfile=FILE"),
    ],
)
def test_a_wrong_line_is_refused_with_the_right_one(tmp_path, line, right):
    assert right in refused(tmp_path, line)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("folder:~/photos", "folder:/home/ann/photos"),
        ("~", "/home/ann"),
        ("left=a:~/x,right=b:~/y", "left=a:/home/ann/x,right=b:/home/ann/y"),
        ("a~/x", "a~/x"),
        ("~bob/x", "~bob/x"),
        ("$PLACE/x", "/data/x"),
        ("a${PLACE}b", "a/datab"),
        (r"^(p\d+)_.*$", r"^(p\d+)_.*$"),
        ("a$|b$", "a$|b$"),
        (r"\$PLACE", "$PLACE"),
        (r"a \#1", "a #1"),
        ("C#", "C#"),
        (r"\~/x", "~/x"),
        (r"\"quoted\"", '"quoted"'),
        (r"\'quoted\'", "'quoted'"),
        ("O'Brien", "O'Brien"),
        (r"\w\\\n", r"\w\\\n"),
    ],
)
def test_values(tmp_path, monkeypatch, text, value):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("PLACE", "/data")
    assert values(write(tmp_path / "x.flags", f"--v={text}\n")) == {"v": value}


NASTY = [
    "plain",
    "",
    "a #b",
    "#b",
    "Tübingen ✓",
    "$HOME",
    "${HOME}",
    "$",
    "a$",
    "~",
    "folder:~/x",
    '"quoted"',
    "'a'",
    "folder:'a b'",
    'a"',
    "\\",
    "\\#",
    "\\$HOME",
    "\\\\~",
    r"^(p\d+)_.*$",
    "a\\",
    '"a\\"',
    "Latin-1 \udce4\udcff",
    "no-break\xa0",
    "next\x85line\u2028x\x0by\x0cz",
    "a=b,c=d",
    "--x=y",
]


def test_every_value_comes_back(tmp_path):
    path = tmp_path / "x.flags"
    rows = [(f"group.v{number}", value) for number, value in enumerate(NASTY)]
    flagfile.write(rows, path, comment="one\ntwo")
    assert values(path) == dict(rows)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.flags"]


def test_readable_values_are_written_as_they_are():
    for value in ("folder:O'Brien's C#", r"^(p\d+)_.*$", "a~b", "accuracy>=0.9"):
        assert flagfile.escape(value) == value


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "x.flags", "--a=1\n")

    def fail(self, target):
        raise OSError("disk")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="cannot be written: disk"):
        flagfile.write([("a", "2")], path, comment="")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("x.flags", "--a=1\n")]


def test_includes_are_relative_and_the_including_file_wins(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    write(tmp_path / "base/a.flags", "--x=included\n--y=included\n--flagfile=b.flags\n")
    write(tmp_path / "base/b.flags", "--z=deep\n--y=deep\n")
    path = write(tmp_path / "x.flags", "--x=own\n--flagfile=base/a.flags\n")
    monkeypatch.chdir("/")
    assert values(path) == {"x": "own", "y": "included", "z": "deep"}
    assert flagfile.read(path)["z"].source.endswith("b.flags:1")


def test_a_circle_is_refused(tmp_path):
    write(tmp_path / "a.flags", "--flagfile=b.flags\n")
    write(tmp_path / "b.flags", "--flagfile=a.flags\n")
    with pytest.raises(UserError, match=r"b\.flags:1: --flagfile=a\.flags: .* circle"):
        flagfile.read(tmp_path / "a.flags")


def test_a_flag_twice_in_one_file_names_both_lines(tmp_path):
    path = write(tmp_path / "x.flags", "--x=1\n--y=1\n--x=2\n")
    with pytest.raises(UserError, match=r"x\.flags:3: --x stands already at .*x\.flags:1"):
        flagfile.read(path)


def test_two_included_files_may_not_disagree_in_silence(tmp_path):
    write(tmp_path / "base.flags", "--shared=1\n")
    write(tmp_path / "a.flags", "--flagfile=base.flags\n--x=a\n")
    write(tmp_path / "b.flags", "--flagfile=base.flags\n--x=b\n")
    both = "--flagfile=a.flags\n--flagfile=b.flags\n"
    with pytest.raises(UserError, match="two of the files that it includes give --x"):
        flagfile.read(write(tmp_path / "x.flags", both))
    assert values(write(tmp_path / "x.flags", f"{both}--x=own\n")) == {"shared": "1", "x": "own"}


def test_no_such_file_and_a_folder(tmp_path):
    for path in (tmp_path / "nothing.flags", tmp_path):
        with pytest.raises(UserError, match="there is no such file"):
            flagfile.read(Path(path))
