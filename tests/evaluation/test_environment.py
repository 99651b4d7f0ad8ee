"""The environment of a run."""

import json
import platform
import socket
import subprocess
import sys
from importlib import metadata

from tfpt.evaluation.environment import environment, peak_memory


def test_versions_and_machine():
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["tensorflow"] == metadata.version("tensorflow")
    assert found["keras"] == metadata.version("keras")
    assert int(found["cores"]) >= 1
    assert float(found["memory"].removesuffix(" GiB")) > 0.1
    assert all(isinstance(value, str) and value for value in found.values())
    assert json.loads(json.dumps(found)) == found


def test_no_host_name():
    assert socket.gethostname() not in environment().values()


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commit_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "git" not in environment()
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    git(tmp_path, "tag", "-a", "-m", "t", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert environment()["git"] == head
    (tmp_path / "a").write_text("2")
    assert environment()["git"] == f"{head}-dirty"


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "git" not in environment()


def test_asking_does_not_load_tensorflow():
    code = (
        "import sys; from tfpt.evaluation.environment import environment; "
        "found = environment(); assert 'tensorflow' not in sys.modules; assert 'gpu' not in found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_peak_memory_grows_with_what_is_held_and_stays():
    before = peak_memory()
    held = bytearray(before)
    held[::2048] = b"x" * len(held[::2048])
    during = peak_memory()
    del held
    assert 10 * 2**20 < before < during
    assert during > 1.5 * before
    assert peak_memory() > 0.95 * during  # the kernel's counters are a few pages behind


def test_peak_memory_does_not_start_at_the_parent_s():
    held = b"x" * (300 * 2**20)
    code = "from tfpt.evaluation.environment import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < len(held)
