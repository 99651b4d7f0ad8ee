"""`tfpt export --model`: an exported model in other formats, with no data and no training."""

import json
import shutil

import pytest

from tfpt import export
from tfpt.serving import parity


@pytest.fixture
def models(trained, tmp_path):
    """A folder of versions that knows nothing of its data."""
    folder = tmp_path / "models"
    shutil.copytree(trained.model_folder, folder / "1")
    (folder / "1" / "assets.extra" / "experiment.flags").unlink()
    return folder


@pytest.fixture
def call(capsys):
    """Runs `tfpt export`: exit code, standard output, standard error."""

    def call(*argv):
        with pytest.raises(SystemExit) as ended:
            export.main(list(map(str, argv)))
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call


def versions(models):
    return sorted(folder.name for folder in models.iterdir())


def test_formats_are_written_into_a_next_version_beside_those_that_are_there(call, models):
    code, out, err = call(f"--model={models}", "--export.formats=saved_model,litert")
    assert (code, err) == (0, "")
    assert "answers as the SavedModel in a fresh process" in out and "Parity passed: 32 synthetic examples" in out
    assert versions(models) == ["1", "2"]
    first, second = (models / number for number in "12")
    for file in ("saved_model.pb", "variables/variables.data-00000-of-00001", "assets.extra/tfpt.json"):
        assert (first / file).read_bytes() == (second / file).read_bytes()
    assert not (first / "assets.extra" / "formats").exists()
    code, out, err = call(f"--model={second}", "--export.formats=onnx", "--export.version=7")
    assert (code, err) == (0, "")
    assert versions(models) == ["1", "2", "7"]
    folder = models / "7" / "assets.extra" / "formats"
    assert {file.name for file in folder.iterdir()} == {"model.tflite", "model.onnx", "formats.json"}
    described = json.loads((folder / "formats.json").read_text())
    assert {name: one["examples"] for name, one in described.items()} == {"litert": 32, "onnx": 32}
    assert all(one["max_difference"] <= 1e-4 for one in described.values())
    card = (models / "7" / "assets.extra" / "model_card.md").read_text()
    assert card.startswith((first / "assets.extra" / "model_card.md").read_text())
    assert "- model.onnx: " in card and "Version 2, with files" in card


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ["--export.formats=litert,keras"],
            r"--export.formats=keras: an exported model holds no Keras model; export the run that made it",
        ),
        ([], "is a SavedModel already; write --export.formats=litert,onnx."),
        (["--export.formats=litert", "--export.warmup=none"], "--export.warmup does not go with tfpt export --model"),
        (["--export.formats=litert", "--task=image_classification"], "--task does not go with tfpt export --model"),
    ],
)
def test_what_an_exported_model_cannot_be_asked_for_is_refused(call, models, given, says):
    code, _, err = call(f"--model={models}", *given)
    assert code == 2 and says in err
    assert versions(models) == ["1"]


def test_a_folder_without_a_version_number_has_no_next_one(call, models):
    models.joinpath("1").rename(models / "mine")
    code, _, err = call(f"--model={models / 'mine'}", "--export.formats=litert")
    assert code == 2 and "mine is no version number" in err


def test_a_file_or_a_copy_that_answers_otherwise_is_not_published(call, models, monkeypatch):
    code, _, err = call(f"--model={models}", "--export.formats=toys.toy_format")
    assert code == 2 and "model.txt does not answer what the SavedModel does" in err
    other = parity.Parity(passed=False, examples=1, max_difference=1.0, different=1, seconds=0.0, reason="one differs")
    monkeypatch.setattr(parity, "prove", lambda *_, **__: other)
    code, _, err = call(f"--model={models}", "--export.formats=litert")
    assert code == 1 and "one differs; it was not published" in err
    assert versions(models) == ["1"]
