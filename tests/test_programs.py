"""evaluate, predict, export and --dry_run on a small trained model, as their users call them."""

import csv
import io
import json
import shutil

import pytest

from tfpt import evaluate, export, fetch, predict, train


@pytest.fixture
def call(capsys):
    """Runs a program's main in this process: `call(predict, "--model=...")` -> exit code, stdout, stderr."""

    def call(program, *argv):
        with pytest.raises(SystemExit) as exit:
            program.main([str(argument) for argument in argv])
        printed = capsys.readouterr()
        return exit.value.code or 0, printed.out, printed.err

    return call


def test_evaluate_matches_classes_by_name_and_needs_no_flagfile(call, trained, pictures, tmp_path):
    shutil.copytree(pictures / "red", tmp_path / "new" / "red")
    shutil.copytree(pictures / "blue", tmp_path / "new" / "blue")

    code, out, err = call(
        evaluate, f"--model={trained.model_folder.parent}", f"--data=folder:{tmp_path / 'new'}",
        f"--evaluate.output={tmp_path / 'out'}",
    )  # fmt: skip

    assert (code, err) == (0, "")
    assert "24 examples" in out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["examples"] == {"test": 24}
    support = {row["class"]: row["support"] for row in metrics["per_class"]}
    assert support == {"blue": 12, "green": 0, "red": 12}
    assert {"report.html", "predictions.csv"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_evaluate_repeats_the_test_numbers_of_the_run(call, trained, pictures, tmp_path):
    code, out, _ = call(
        evaluate, f"--model={trained.model_folder}", f"--data=folder:{pictures}", "--evaluate.split=test", "--json",
        f"--evaluate.output={tmp_path / 'out'}",
    )  # fmt: skip

    assert code == 0
    assert json.loads(out)["test"] == trained.metrics["test"]


def test_evaluate_refuses_a_class_that_the_model_does_not_know(call, trained, pictures, tmp_path):
    shutil.copytree(pictures / "red", tmp_path / "new" / "purple")
    shutil.copytree(pictures / "blue", tmp_path / "new" / "blue")

    code, _, err = call(evaluate, f"--model={trained.model_folder}", f"--data=folder:{tmp_path / 'new'}")

    assert code == 2
    assert "purple" in err and "blue, green, red" in err


@pytest.fixture
def mixed(pictures, tmp_path):
    """A folder with a good picture, one in a subfolder, one that is not a picture, and litter."""
    folder = tmp_path / "mixed #1 [ü]"
    (folder / "below").mkdir(parents=True)
    shutil.copy(pictures / "red" / "0.png", folder / "a b.png")
    shutil.copy(pictures / "blue" / "0.png", folder / "below" / "c.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not asked")
    return folder


def test_predict_answers_each_file_for_itself(call, trained, mixed):
    code, out, err = call(predict, f"--model={trained.model_folder}", mixed)

    assert (code, err) == (1, "")  # one file has no answer
    assert "a b.png" in out and "c.png" in out and "notes.txt" not in out
    assert "it is not a picture that can be decoded" in out


def test_predict_writes_csv_and_json_lines_alone_on_standard_output(call, trained, mixed):
    _, out, _ = call(predict, f"--model={trained.model_folder}", mixed, "--predict.format=csv", "--predict.top=1")
    rows = list(csv.DictReader(io.StringIO(out)))
    _, lines, _ = call(predict, f"--model={trained.model_folder}", mixed, "--json")
    answers = [json.loads(line) for line in lines.splitlines()]

    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert sorted(rows[0]) == ["error", "label1", "path", "score1"]
    assert [answer.get("label", "") for answer in answers] == [row["label1"] for row in rows]
    assert sum(answers[0]["scores"]) == pytest.approx(1)


def test_predict_says_what_is_not_there(call, trained, tmp_path):
    assert call(predict, f"--model={tmp_path}", "x.jpg")[0] == 2
    code, _, err = call(predict, f"--model={trained.model_folder}", tmp_path / "no.jpg")

    assert code == 2
    assert "no.jpg is not there" in err


def test_export_publishes_the_next_version_without_training(call, trained, tmp_path):
    run, models = tmp_path / "run", tmp_path / "models"
    shutil.copytree(trained.folder, run)
    shutil.copytree(trained.model_folder.parent, models)
    flags = f"--flagfile={run / 'experiment.flags'}", f"--output.run_dir={run}", f"--output.model_dir={models}"

    code, out, _ = call(export, *flags, "--export.require=accuracy>=0")
    refused = call(export, *flags, "--export.require=accuracy>1")

    assert code == 0 and "epoch" not in out
    assert [folder.name for folder in sorted(models.iterdir())] == ["1", "2"]
    assert refused[0] == 3 and "nothing was published" in refused[2]
    assert json.loads((run / "metrics.json").read_text())["test"] == trained.metrics["test"]


def test_export_needs_a_trained_run(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(export, "--task=image_classification", "--data=digits", "--backbone=tiny:conv")

    assert code == 2
    assert "run `tfpt train` first" in err


def test_dry_run_walks_every_station_and_writes_nothing(call, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        train, "--task=image_classification", f"--data=folder:{pictures}", "--backbone=tiny:conv", "--dry_run"
    )

    assert (code, err) == (0, "")
    for station in ("raw example", "host", "training batch", "device", "backbone", "model", "served answer"):
        assert station in out
    assert list(tmp_path.iterdir()) == []


def test_fetch_wants_a_name(call):
    code, _, err = call(fetch)

    assert code == 2
    assert "efficientnet_lite:lite0" in err
