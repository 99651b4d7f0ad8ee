import json
import time

import pytest
import tensorflow as tf

from tfpt.training import precision


@pytest.fixture
def bfloat16_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])


@pytest.mark.parametrize(("ratio", "chosen"), [(1.7, "bfloat16"), (1.1, "float32"), (0.8, "float32")])
def test_a_cpu_that_has_bfloat16_uses_it_where_it_is_faster(bfloat16_cpu, ratio, chosen):
    assert precision.choose_precision("auto", speedup=lambda: ratio) == (
        chosen,
        f"bfloat16 is {ratio} times as fast here",
    )


def test_what_is_asked_for_is_not_measured():
    assert precision.choose_precision("float16", speedup=None)[0] == "float16"


def test_a_cpu_without_bfloat16_is_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert precision.choose_precision("auto", speedup=lambda: 1 / 0)[0] == "float32"


def test_little_training_is_not_worth_a_measurement(bfloat16_cpu):
    assert precision.choose_precision("auto", speedup=None)[0] == "float32"


def work(seconds):
    return lambda name: lambda: time.sleep(seconds[name])


def test_a_speedup_is_measured_once_a_machine(bfloat16_cpu, tmp_path):
    found = precision.measured_speedup(work({"float32": 0.03, "bfloat16": 0.01}), key="a")
    assert 1.5 < found <= 3.1
    assert precision.measured_speedup(None, key="a") == found
    other = precision.measured_speedup(work({"float32": 0.01, "bfloat16": 0.03}), key="b")
    assert other < 0.7
    assert len(json.loads((tmp_path / "bfloat16.json").read_text())) == 2


def test_a_damaged_memory_is_made_anew(bfloat16_cpu, tmp_path):
    (tmp_path / "bfloat16.json").write_text("{")
    assert precision.measured_speedup(work({"float32": 0.02, "bfloat16": 0.01}), key="a") > 1
    assert len(json.loads((tmp_path / "bfloat16.json").read_text())) == 1
