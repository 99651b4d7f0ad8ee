"""Cross-validation: each picture is predicted by the one run that has not seen it."""

import csv
import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from tfpt import folds, reproduce, run
from tfpt.console import Console
from tfpt.errors import GateError, UserError
from tfpt.evaluation.predictions import read_predictions


def experiment(folder, pictures, **groups):
    """Three folds of a head alone."""
    from tfpt import keywords

    options = {
        "folds": 3,
        "image_size": 16,
        "batch_size": 8,
        "head_epochs": 1,
        "epochs": 0,
        "augment": "none",
        **groups,
    }
    output = {"name": "cv", "run_dir": str(folder / "run"), "model_dir": str(folder / "models")}
    return keywords.experiment_from_kwargs(
        task="image_classification", data=f"folder:{pictures}", backbone="tiny:conv", output=output, **options
    )


@pytest.fixture(scope="module")
def validated(pictures, fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    return cross_validate(experiment(folder, pictures))


def cross_validate(wanted):
    console = Console(quiet=True)
    return folds.fit_folds(wanted, fit=lambda one: run.fit_experiment(one, console=console), console=console)


def test_every_picture_is_predicted_once_by_a_model_that_has_not_seen_it(validated, pictures):
    rows = read_predictions(validated.folder / "predictions.csv")
    names = {str(file.relative_to(pictures)) for file in pictures.rglob("*.png")}
    assert len(rows) == len(names) == validated.metrics["examples"]["test"]
    assert {row.name for row in rows} == names
    for fold in range(3):
        with open(validated.folder / f"fold-{fold}" / "splits.csv", encoding="utf-8") as file:
            tested = {row["name"] for row in csv.DictReader(file) if row["split"] == "test"}
        own = {row.name: row for row in rows if row.split == f"fold-{fold}"}
        assert set(own) == tested
        alone = read_predictions(validated.folder / f"fold-{fold}" / "predictions.csv")
        for row in alone:
            if row.split == "test":
                assert (own[row.name].scores, own[row.name].correct) == (row.scores, row.correct)


def test_mean_and_spread_are_those_of_the_folds(validated):
    found = json.loads((validated.folder / "metrics.json").read_text())
    assert found["folds"] == 3 and found["test"] == validated.metrics["test"]
    values = [found["runs"][str(fold)]["test"]["accuracy"]["value"] for fold in range(3)]
    accuracy = found["test"]["accuracy"]
    mean = sum(values) / 3
    assert accuracy["value"] == pytest.approx(mean)
    assert (accuracy["low"], accuracy["high"]) == (min(values), max(values))
    assert accuracy["deviation"] == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
    assert validated.model_folder is None
    assert not (validated.folder.parent / "models").exists()


def test_again_it_trains_nothing(validated, pictures):
    before = {file: file.stat().st_mtime_ns for file in validated.folder.glob("fold-*/metrics.json")}
    again = cross_validate(experiment(validated.folder.parent, pictures))
    assert again.metrics["test"] == validated.metrics["test"]
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_it_can_be_reproduced_and_publishes_no_model(validated, capsys):
    with pytest.raises(SystemExit) as ended:
        reproduce.main([str(validated.folder), "--reproduce.check"])
    assert ended.value.code in (0, None), capsys.readouterr().err
    with pytest.raises(
        UserError, match="Cross-validation publishes no model; fit with the same settings without folds"
    ):
        validated.predict(["x.png"])


def test_what_is_required_is_required_of_the_mean(validated, pictures):
    with pytest.raises(GateError, match="accuracy"):
        cross_validate(experiment(validated.folder.parent, pictures, require="accuracy>=1.1"))


def test_seeds_and_folds_exclude_each_other(tmp_path, pictures):
    with pytest.raises(UserError, match=r"--input\.fold=all trains 3 times already; leave --train\.seeds out"):
        cross_validate(experiment(tmp_path, pictures, seeds=(0, 1)))


def test_folds_of_different_data_are_not_put_together(validated, tmp_path):
    folders = [tmp_path / f"fold-{fold}" for fold in range(3)]
    for folder in folders:
        folder.mkdir()
        for name in ("splits.csv", "data.json"):
            shutil.copy(validated.folder / folder.name / name, folder)
    folds._check_same_data(folders)
    record = (folders[1] / "data.json").read_text()
    (folders[1] / "data.json").write_text(record.replace('"labels_sha256": "', '"labels_sha256": "x'))
    with pytest.raises(UserError, match=r"The data is not what it was when .*fold-1 was trained"):
        folds._check_same_data(folders)
    (folders[1] / "data.json").write_text(record)
    lines = (folders[0] / "splits.csv").read_text().splitlines(keepends=True)
    (folders[0] / "splits.csv").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"The data is not what it was when .*fold-0 was trained"):
        folds._check_same_data(folders)


def test_several_workers_train_one_run(tmp_path, pictures, monkeypatch):
    together = SimpleNamespace(workers=2, is_chief=True)
    monkeypatch.setattr("tfpt.training.strategies.start", lambda options: together)
    with pytest.raises(UserError, match=r"--input\.fold=all trains several runs, and several workers train one"):
        run.fit_experiment(experiment(tmp_path, pictures), console=Console(quiet=True))
    with pytest.raises(UserError, match=r"--train\.seeds trains several runs"):
        run.fit_experiment(experiment(tmp_path, pictures, folds=0, seeds=(0, 1)), console=Console(quiet=True))


def test_folds_that_were_begun_are_a_run(tmp_path, pictures):
    (tmp_path / "run" / "fold-0").mkdir(parents=True)
    (tmp_path / "run" / "fold-0" / "status.json").write_text('{"state": "interrupted"}')
    wanted = experiment(tmp_path, pictures)
    wanted = dataclasses.replace(wanted, output=dataclasses.replace(wanted.output, if_exists="fail"))
    with pytest.raises(UserError, match=r"--output\.if_exists=fail, and .* holds a run"):
        run.fit_experiment(wanted, console=Console(quiet=True))


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('"name","split","label","score:1"\n"1","test","0",0.5\n"2","train","1",1\n"3\r","test","\udcfc",1e-05\n',
                    encoding="utf-8", errors="surrogateescape")  # fmt: skip
    folds.write_out_of_fold([file, file], tmp_path / "b.csv")
    found = (tmp_path / "b.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = '"1","fold-0","0",0.5\n"3\r","fold-0","\udcfc",1e-05\n'
    assert found == '"name","split","label","score:1"\n' + rows + rows.replace("fold-0", "fold-1")
    folds.write_out_of_fold([file, tmp_path / "none.csv"], tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


def test_fit_goes_through_all_folds_and_says_so(fit, pictures, tmp_path, capsys):
    run_of_all = fit(tmp_path, data=f"folder:{pictures}", epochs=0, folds=2, limit=24)
    assert run_of_all.metrics["folds"] == 2
    run.tell(run_of_all, Console())
    said = capsys.readouterr().out
    assert "range over 2 folds" in said and "fold-*/report.html" in said
    with pytest.raises(UserError, match=r"--input\.folds=2: cross-validation has no model to export"):
        run.export_experiment(run_of_all.experiment, console=Console(quiet=True))
    metrics = json.loads((run_of_all.folder / "fold-0" / "metrics.json").read_text())
    assert metrics["limit"] == 24
    assert "this is a first try" in (run_of_all.folder / "fold-0" / "report.html").read_text(encoding="utf-8")
    from tfpt import compare_runs

    members, _ = compare_runs.find_runs([run_of_all.folder])
    (row,) = compare_runs.compare(members).rows
    assert (row.name, len(row.runs)) == ("run", 2)


def test_seeds_that_are_still_to_come_do_what_those_did_that_were_begun(tmp_path, pictures, monkeypatch):
    for name, lines in (("seed-1", "--input.intensity=full\n"), ("seed-3", "")):  # the second is of an earlier tfpt
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "experiment.flags").write_text(lines)
    monkeypatch.setattr("tfpt.seeds.fit_seeds", lambda experiment, **options: experiment)
    begun = experiment(tmp_path, pictures, folds=0, seeds=(3, 1))
    assert begun.input.intensity != "full"
    assert run.fit_experiment(begun, console=Console(quiet=True)).input.intensity == "full"
