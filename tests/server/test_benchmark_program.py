"""`tfpt benchmark` as a person starts it."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tfpt import benchmark as program
from tfpt import flags
from tfpt.console import Console
from tfpt.server import latency


def call(capsys, *argv):
    with pytest.raises(SystemExit) as exit:
        program.main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return exit.value.code or 0, out, err


@pytest.fixture
def no_process(monkeypatch):
    """What would run in a fresh process runs in this one, where TensorFlow is loaded."""

    def run(command, *, input, **options):
        script, *arguments = command[command.index("-I") + 1 :]
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
            patch.setattr(sys, "stdin", io.StringIO(input))
            patch.setattr(sys, "argv", [script, *arguments])
            runpy.run_path(script, run_name="__main__")
        return subprocess.CompletedProcess(command, 0, out.getvalue(), "")

    monkeypatch.setattr(latency, "subprocess", types.SimpleNamespace(run=run))


@pytest.mark.slow
def test_a_fresh_process_loads_tensorflow_alone(whole, encoded):
    found = latency.start(whole, {"image": encoded[0]})
    assert found.import_seconds > 0.5 and 0 < found.import_bytes < found.loaded_bytes <= found.peak_bytes
    assert found.first_request_seconds > found.second_request_seconds
    with pytest.raises(RuntimeError, match="the fresh process failed: "):
        latency.start(whole, {"picture": encoded[0]})


def test_it_measures_each_engine_and_writes_what_it_found(capsys, first, tmp_path, no_process):
    code, out, said = call(
        capsys, f"--model={first.parent}", "--benchmark.batch_sizes=1,2", "--benchmark.seconds=0.01",
        "--benchmark.picture=40,30", f"--benchmark.output={tmp_path / 'b'}", "--benchmark.examples=5", "--json",
    )  # fmt: skip
    assert code == 0, said
    results = json.loads(out)
    assert json.loads((tmp_path / "b" / "results.json").read_text()) == results
    assert results["model"] == str(first) and results["inputs"] == "synthetic"
    rows = results["requests"]
    assert [(row["engine"], row["batch_size"]) for row in rows] == [
        (engine, size) for engine in ("tensorflow", "openvino") for size in (1, 2)
    ]
    for row in rows:
        assert 0 < row["p50"] <= row["p90"] <= row["p99"] and row["requests"] >= 20
        mean = row["decode"] + row["model"] + row["encode"]
        assert row["examples_per_second"] == pytest.approx(1000 * row["batch_size"] / mean)
        assert min(row["decode"], row["model"], row["encode"]) > 0
    start = results["start"]
    assert min(start[f"{what}_bytes"] for what in ("import", "loaded", "peak")) > 0
    assert min(start[f"{what}_seconds"] for what in ("load", "first_request", "second_request")) > 0
    drawing = ElementTree.parse(tmp_path / "b" / "latency.svg")
    texts = {"".join(e.itertext()).strip() for e in drawing.iter()}
    assert {"tensorflow", "openvino", "milliseconds"} <= texts
    assert not [text for text in texts if "mathdefault" in text]
    assert "max_batch_size { value: " in (tmp_path / "b" / "batching.config").read_text()
    for word in ("peak memory", "p99", "examples/s", "The model runs on openvino"):
        assert word in said


def test_requests_are_filled_with_the_users_own_examples(cut, encoded, monkeypatch):
    sent, runner, prepare = [], cut.runner, cut.prepare

    def watched(name, values, **options):
        sent.extend(values["image"])
        return prepare(name, values, **options)

    monkeypatch.setattr(cut, "prepare", watched)
    raw = [{"image": value} for value in encoded[:4]]
    found = latency.measure(cut, raw, engine="x", batch_size=2, seconds=0.001)
    assert found.requests == 20 and len(sent) == 2 * (20 + 3)
    assert sent[:4] == encoded[:4] and set(sent) == set(encoded[:4])
    assert cut.runner is runner


def test_mistakes_are_said_in_one_sentence(capsys, first, tmp_path, pictures):
    assert call(capsys)[0] == 2
    (tmp_path / "file").touch()
    (tmp_path / "x.csv").write_text("text,label\na,b\nc,d\n")
    for arguments, says in (
        ([f"--benchmark.output={tmp_path / 'file' / 'b'}"], "is not a folder; choose"),
        ([f"--data=csv:{tmp_path / 'x.csv'}"], "has no image, which the model takes"),
        (["--benchmark.batch_sizes=0"], "--benchmark.batch_sizes=0 is not between 1 and 1024"),
        (["--benchmark.picture=5"], "--benchmark.picture=5 is not a width and a height"),
        (["--benchmark.seconds=0"], "is not positive"),
    ):
        code, _, said = call(capsys, f"--model={first}", *arguments)
        assert code == 2 and says in said and said.count("\n") == 1, said


def test_pictures_that_do_not_decode_are_left_out_and_said(whole, encoded, tmp_path):
    for name, content in (("a/1.png", encoded[0]), ("a/2.png", b"no picture"), ("b/3.png", encoded[1])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    parsed = flags.parse(
        [f"--data=folder:{tmp_path}"], program="benchmark", groups=program.GROUPS, need_experiment=False
    )
    said = io.StringIO()
    made = program._examples(parsed, whole, Console(stream=said))
    assert sorted(one["image"] for one in made) == sorted(encoded[:2])
    assert "1 of the first 3 examples cannot be answered" in said.getvalue()


def test_synthetic_examples_differ_and_are_the_same_each_time(whole):
    from tfpt.preprocessors import distinct
    from tfpt.serving import synthetic

    made = synthetic.examples(distinct(whole.preprocessors), 3, picture=(50, 40))
    assert len({one["image"] for one in made}) == 3
    assert made == synthetic.examples(distinct(whole.preprocessors), 3, picture=(50, 40))
    import tensorflow as tf

    assert tf.io.decode_jpeg(made[0]["image"]).shape == (40, 50, 3)
    assert np.ptp(tf.io.decode_jpeg(made[0]["image"])) > 100
