"""What is free, on the machine and in a container."""

import pytest

from tfpt import cores
from tfpt.training import machine


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A control group with 8 GiB, 5 GiB of it used, 2 GiB of that for files that make room."""
    (tmp_path / "memory.max").write_text(f"{8 * 2**30}\n")
    (tmp_path / "memory.current").write_text(f"{5 * 2**30}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {2 * 2**30}\n")
    monkeypatch.setattr(machine, "_CONTAINER", tmp_path)
    return tmp_path


def test_a_containers_limit_counts(container):
    assert machine._left_in_container(container) == 5 * 2**30
    assert machine.free_memory() <= 5 * 2**30


def test_without_a_limit_the_machine_counts(container):
    (container / "memory.max").write_text("max\n")
    assert machine._left_in_container(container) == float("inf")
    assert machine.free_memory() > 2**20


@pytest.mark.parametrize(("quota", "most"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", 10**6)])
def test_a_containers_quota_of_cores_counts(tmp_path, monkeypatch, quota, most):
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    monkeypatch.setattr(cores, "_QUOTA", file)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: set(range(4)))
    assert cores.cores() == min(most, 4)
