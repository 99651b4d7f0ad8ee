"""Files that appear whole or not at all."""

import errno
import os

import pytest

from tfpt.atomic import atomic_text
from tfpt.errors import OutsideError, UserError


def test_what_fails_leaves_the_file_before_and_nothing_else(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("before")
    with pytest.raises(ValueError, match="mine"), atomic_text(file) as target:
        target.write("half")
        raise ValueError("mine")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.json", "before")]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, OutsideError), (errno.EDQUOT, OutsideError), (errno.EACCES, UserError)]
)
def test_a_full_disk_is_nobodys_mistake(tmp_path, monkeypatch, number, kind):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(UserError, match=r"a\.json cannot be written") as found,
        atomic_text(tmp_path / "a.json") as target,
    ):
        target.write("x")
    assert type(found.value) is kind
    assert list(tmp_path.iterdir()) == []
