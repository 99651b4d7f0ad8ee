"""Every flag file in configs/ is parsed; the smoke ones are run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tfpt import flags, keywords, quickstart, record

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.glob("*/*.flags"))
SMOKE = [file for file in FILES if file.stem.startswith("smoke")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_flag_file_is_an_experiment(file, tmp_path):
    lines = file.read_text(encoding="utf-8").splitlines()
    data = [] if any(line.startswith("--data=") for line in lines) else [f"--data=folder:{tmp_path}"]
    parsed = flags.parse([f"--flagfile={file}", *data])

    assert parsed.experiment is not None
    assert parsed.experiment.task.name == file.parent.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_flag_file_says_its_own_command(file):
    assert f"--flagfile=configs/{file.parent.name}/{file.name}" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("image", "image_classification/digits_efficientnet_lite0.flags"),
        ("text", "text_classification/movie_reviews_minilm.flags"),
    ],
)
def test_each_quickstart_is_a_flag_file(kind, file):
    parsed = flags.parse([f"--flagfile={CONFIGS / file}"])

    assert record.differences(parsed.experiment, keywords.experiment_from_kwargs(**quickstart.SETTINGS[kind])) == []


@pytest.mark.parametrize("file", SMOKE, ids=lambda file: file.stem)
def test_smoke_flag_files_run(file, tmp_path):
    command = [sys.executable, "-m", "tfpt.train", f"--flagfile={file}", "--input.limit=300"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    metrics = json.loads((tmp_path / "runs" / file.stem / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["parity"]["passed"]
    assert (tmp_path / "saved_models" / file.stem / "1" / "saved_model.pb").is_file()
