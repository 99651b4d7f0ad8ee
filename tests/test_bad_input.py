"""What people really give it, and where it really runs: one sentence, the right exit code, nothing lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfpt
from tfpt.config import Input, Train
from tfpt.errors import UserError


def run(*command, **options):
    path = os.pathsep.join([str(Path(tfpt.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, **options)


def tfpt_in_shell(text, **options):
    return run("sh", "-c", text.replace("tfpt", f"'{sys.executable}' -m tfpt"), **options)


def test_closed_streams_are_no_bug():
    for closed in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = tfpt_in_shell(f"tfpt list {closed}")
        assert (done.returncode, done.stderr) == (0, "")
    assert tfpt_in_shell("tfpt train --nonsense 2>&-").returncode == 2


def test_what_is_printed_never_lands_in_a_file_that_took_a_closed_streams_place(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "from tfpt import app\n"
        "def main(parsed, console):\n"
        "    with open('mine.txt', 'w') as file:\n"
        "        print('for the screen', flush=True)\n"
        "        file.write('for the file')\n"
        "app.run(main, program='list', about='.', example='.', need_experiment=False, argv=[])\n"
    )
    done = run("sh", "-c", f"'{sys.executable}' '{script}' <&- >&- 2>&-", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "mine.txt").read_text() == "for the file"


def test_ctrl_c_while_a_program_is_imported(monkeypatch, capsys):
    from tfpt import __main__

    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__.importlib, "import_module", interrupted)
    assert __main__.main(["train"]) == 130
    assert capsys.readouterr().err == "tfpt: interrupted\n"


@pytest.mark.parametrize("seed", [-1, 2**63, 10**23])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(ValueError, match="seed: "):
        Train(seed=seed)


@pytest.mark.parametrize("name", ["split_seed", "examples_seed"])
def test_split_seeds_may_be_negative_but_not_endless(name):
    assert getattr(Input(**{name: -5}), name) == -5
    with pytest.raises(ValueError, match=f"{name}: "):
        Input(**{name: 2**63})


def test_when_nothing_at_all_decodes_that_is_said(fit, tmp_path):
    for k in range(4):
        for name in ("a", "b"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / name / f"{k}.png").write_text(f"no picture {name} {k}")
    with pytest.raises(UserError, match="can be decoded; mend them"):
        fit(tmp_path, data=f"folder:{tmp_path / 'data'}", max_bad_fraction=1.0, epochs=0)


def test_nothing_is_measured_where_nothing_decodes(trained, tmp_path, monkeypatch):
    from tfpt.console import Console
    from tfpt.data.folder import Folder
    from tfpt.evaluation.on_data import evaluate

    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    for name in ("blue", "green"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.png").write_text(name)
    with pytest.raises(UserError, match="None of the 2 examples of --data=mine can be decoded"):
        evaluate(
            trained.model,
            Folder(str(tmp_path / "data")),
            data="mine",
            part="all",
            output=tmp_path / "out",
            report_examples=0,
            input_options=Input(max_bad_fraction=1.0),
            console=Console(quiet=True),
        )
    assert not (tmp_path / "out").exists()


def test_a_bug_is_told_even_where_its_traceback_cannot_be_written(tmp_path, monkeypatch, capsys):
    from tfpt import app

    def main(parsed, console):
        console.set_log(tmp_path / "log.txt")
        (tmp_path / "log.txt").unlink()
        (tmp_path / "log.txt").mkdir()
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(SystemExit) as ended:
        app.run(main, program="list", about=".", example=".", need_experiment=False, argv=[])
    assert ended.value.code == 1
    assert capsys.readouterr().err.endswith(
        "the traceback could not be written (No such file or directory), --debug shows it.\n"
    )


def test_where_the_model_cannot_go_is_said_before_training(fit, pictures, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "models" / "3").mkdir(parents=True)
    data = f"folder:{pictures}"
    with pytest.raises(UserError, match=r"model_dir.*is not a folder"):
        fit(tmp_path, data=data, output={"model_dir": str(tmp_path / "file")})
    with pytest.raises(UserError, match=r"model_dir.*is not a folder"):
        fit(tmp_path, data=data, output={"model_dir": str(tmp_path / "file" / "models")})
    with pytest.raises(UserError, match=r"--export\.version=3: .* exists"):
        fit(tmp_path, data=data, version="3")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_that_tensorflow_meets_is_no_bug(tmp_path, capsys):
    import tensorflow as tf

    from tfpt import app

    def main(parsed, console):
        raise tf.errors.ResourceExhaustedError(None, None, "checkpoints/part-0; No space left on device [Op:SaveV2]")

    with pytest.raises(SystemExit) as ended:
        app.run(main, program="list", about=".", example=".", need_experiment=False, argv=[])
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err
        == "tfpt: the disk is full, or your share of it; make room, and the same command goes on.\n"
    )


def test_a_finished_run_whose_results_are_gone(fit, pictures, tmp_path):
    options = {"data": f"folder:{pictures}", "publish": False, "epochs": 0}
    run = fit(tmp_path, **options)
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"half')
    with pytest.raises(UserError, match="damaged or gone"):
        fit(tmp_path, **options)
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "metrics.json").unlink()
    with pytest.raises(UserError, match="damaged or gone"):
        fit(tmp_path, **options)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("task", 3), ("task", None), ("data", [1]), ("data", None), ("data", ()), ("backbone", 3), ("backbone", None)],
)
def test_what_is_no_component_is_refused(kind, value):
    components = {"task": "image_classification", "data": "digits", "backbone": "tiny:conv", kind: value}
    with pytest.raises(UserError, match=f"^{kind}=.*: write {kind}="):
        tfpt.fit(**components)


def test_a_keras_model_is_a_backbone(fit, pictures, tmp_path):
    import keras

    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3, strides=2)(inputs))
    run = fit(tmp_path, data=f"folder:{pictures}", backbone=model, image_size="auto", epochs=0)
    assert len(run.predict([next(pictures.rglob("*.png"))])["label"]) == 1
