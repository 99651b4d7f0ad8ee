"""Experiments written by earlier versions keep parsing.

tests/recorded holds files that run folders got from the code of the commit that their names begin with. They are never
changed. Where this test fails, a flag was renamed or taken away, or a value is not allowed any more: let
`flags.read_experiment` translate what was recorded, and add a file of today.
"""

from pathlib import Path

import pytest

from tfpt import flagfile, flags, record

FILES = sorted((Path(__file__).parent / "recorded").glob("*.flags"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_value_is_read_as_it_was_recorded(file):
    recorded = {name: given.value for name, given in flagfile.read(file).items()}
    assert len(recorded) > 40
    now = dict(record.to_rows(flags.read_experiment(file)))
    assert {name: now.get(name) for name in recorded} == recorded


def test_what_came_later_is_at_its_default():
    oldest, now = FILES[0], flags.read_experiment(FILES[0])
    recorded = flagfile.read(oldest)
    later = [flag for flag, _ in record.to_rows(now) if flag not in recorded]
    assert "train.lora_rank" in later
    changed = [flag for flag, _, is_changed in record.changed_rows(now) if is_changed]
    assert not set(later) & set(changed)
