"""What `tfpt doctor` finds, and that each thing to mend comes with what to do."""

import importlib.metadata
import json

import pytest
import tensorflow as tf

from tfpt import doctor
from tfpt.training import checkup
from tfpt.training.checkup import BROKEN, LOOK, OK


def test_every_check_says_something_and_none_is_broken_here(monkeypatch, tmp_path):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path))
    found = checkup.check_up()
    names = {finding.name for finding in found}
    assert {"versions", "device", "bfloat16", "XLA", "decoding", "memory", "caches", "offline"} <= names
    assert [finding for finding in found if finding.state == BROKEN] == []
    for finding in found:
        assert finding.told and "\n" not in finding.told + finding.to_do
        assert (finding.state == OK) == (not finding.to_do), finding


def test_versions_that_do_not_fit_are_told_with_the_command(monkeypatch):
    needs = ["numpy<1", "not-there-at-all>=2", "keras>=3", 'pyarrow<0.1; extra == "parquet"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    found = list(checkup.versions())
    assert [finding.state for finding in found] == [BROKEN, BROKEN]
    assert found[0].told.endswith("is not <1") and found[0].to_do == 'pip install "numpy<1"'
    assert (found[1].told, found[1].to_do) == ("not-there-at-all is not installed", 'pip install "not-there-at-all>=2"')


def test_extras_are_there_or_not(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: ["numpy", 'absent; extra == "a"', 'keras; extra == "b"']
    )
    monkeypatch.setattr(importlib.metadata.metadata("tfpt").__class__, "get_all", lambda self, name: ["a", "b"])
    first, second = checkup.extras()
    assert (first.state, first.to_do) == (LOOK, 'if you need it: pip install "tfpt[a]"')
    assert (second.name, second.state) == ("extra b", OK)


@pytest.mark.parametrize(
    ("built", "loaded", "told", "to_do"),
    [
        (False, (), "built without CUDA", "and-cuda"),
        (True, ("cuda",), "libcudart, libcublas", "pip install 'tensorflow[and-cuda]'"),
        (True, (), "libcuda, libcudart", "NVIDIA's driver"),
    ],
)
def test_a_gpu_that_tensorflow_does_not_see_is_explained(monkeypatch, built, loaded, told, to_do):
    monkeypatch.setattr(checkup, "_has_nvidia", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: built)
    monkeypatch.setattr(checkup, "loads", lambda name: name in loaded)
    (finding,) = checkup.devices()
    assert finding.state == BROKEN
    assert told in finding.told and to_do in finding.to_do


def test_a_library_that_is_there_loads_and_one_that_is_not_does_not():
    assert not checkup.loads("no_such_library_anywhere")


def test_little_room_and_a_check_that_fails_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(checkup, "free_memory", lambda: 2**20)
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20}))
    assert [finding.state for finding in checkup.memory_and_disk()] == [LOOK, LOOK, LOOK]

    def fails():
        raise OSError("gone\nfar")
        yield

    for name in ("versions", "extras", "devices", "arithmetic", "decoding", "memory_and_disk", "caches"):
        monkeypatch.setattr(checkup, name, fails)
    found = checkup.check_up()
    assert [(finding.state, finding.told) for finding in found] == [(BROKEN, "OSError: gone")] * 7


def test_offline_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path))
    monkeypatch.setenv("TFPT_OFFLINE", "1")
    (tmp_path / "kept").write_bytes(bytes(2**20))
    kept, offline = checkup.caches()
    assert kept.told.startswith("0.00 GiB") and offline.state == LOOK


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (LOOK, 0), (BROKEN, 1)])
def test_the_program_prints_findings_and_ends_with_1_where_one_is_broken(monkeypatch, capsys, state, code):
    finding = checkup.Finding("thing", state, "as it is", "" if state == OK else "mend it")
    monkeypatch.setattr(checkup, "check_up", lambda: [finding])
    for arguments in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            doctor.main(arguments)
        assert end.value.code == code
    lines, _, printed = capsys.readouterr().out.partition("\n")
    assert lines == f"{state:<6}  thing: as it is{'' if state == OK else ': mend it'}"
    assert json.loads(printed) == [{"name": "thing", "state": state, "told": "as it is", "to_do": finding.to_do}]
