"""Where results cannot be written is said before any work."""

import pytest

from tfpt import evaluate, predict, writable
from tfpt.errors import UserError


def test_folders(tmp_path):
    (tmp_path / "file").write_text("")
    writable.check_folder(tmp_path / "new" / "deeper", flag="--x")
    with pytest.raises(UserError, match=r"--x=.*/file/new: .*/file is not a folder; choose a folder that is yours\.$"):
        writable.check_folder(tmp_path / "file" / "new", flag="--x")
    with pytest.raises(UserError, match=r"is not a folder; or else\.$"):
        writable.check_folder(tmp_path / "file", flag="--x", way_out="or else")


def test_files(tmp_path):
    (tmp_path / "file").write_text("")
    writable.check_file(tmp_path / "file", flag="--x")
    writable.check_file(tmp_path / "new", flag="--x")
    for file, problem in (
        (tmp_path, "is a folder"),
        (tmp_path / "a" / "b", "/a is not there"),
        (tmp_path / "file" / "b", "/file cannot"),
    ):
        with pytest.raises(UserError, match=problem):
            writable.check_file(file, flag="--x")


def test_programs_look_before_they_load_a_model(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for program, *argv in (
        (predict, "--text=x", f"--predict.output={tmp_path / 'a' / 'b.csv'}"),
        (evaluate, "--data=digits", f"--evaluate.output={tmp_path / 'file' / 'out'}"),
    ):
        with pytest.raises(SystemExit) as exit:
            program.main([f"--model={tmp_path / 'no_model'}", *argv])
        assert (exit.value.code, argv[-1] in capsys.readouterr().err) == (2, True)
