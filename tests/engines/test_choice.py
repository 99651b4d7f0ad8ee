"""How an engine is chosen."""

import io
import time

import numpy as np
import pytest
import tensorflow as tf

from tfpt import registry
from tfpt.console import Console
from tfpt.engines import Engine, _choice
from tfpt.errors import UserError

INPUTS = [np.arange(8, dtype=np.float32).reshape(4, 2)]


def engine(seconds=0.0, off=0.0, fails=False, rounded=None):
    """`rounded`: seconds and difference in bfloat16, where it has that."""

    class Fake(Engine):
        compiled = 0

        @classmethod
        def precisions(cls):
            return ("float32", "bfloat16") if rounded else ("float32",)

        @classmethod
        def version(cls):
            return "1"

        def compile(self, graph, *, precision, threads, at_a_time):
            type(self).compiled += 1
            if fails:
                raise RuntimeError("no such operation\nand more")

            took, by = rounded if precision == "bfloat16" else (seconds, off)

            def run(inputs):
                time.sleep(took)
                return [inputs[0] * (1 + by)]

            return run

    return Fake


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """Chooses among engines that are made up: `choose(tensorflow=engine(...), other=engine(...))`."""

    def choose(*, wanted="auto", batches=10**6, precision="float32", **engines):
        console = Console(stream=io.StringIO())
        monkeypatch.setattr(registry, "names", lambda kind: sorted(engines))
        monkeypatch.setattr(registry, "find", lambda kind, name: engines[name])
        found = _choice.choose(
            None,
            INPUTS,
            wanted=wanted,
            precision=precision,
            threads=1,
            batches=batches,
            key="k",
            memory=tmp_path / "home" / "engines.json",
            console=console,
        )
        return found, console.stream.getvalue()

    return choose


def test_the_fastest_is_chosen_and_remembered(choose):
    engines = {"tensorflow": engine(0.02), "fast": engine(0.002), "slow": engine(0.05)}
    found, _ = choose(**engines)
    assert found.name == "fast"
    assert found.why.startswith("fast ")
    assert found.why.index("tensorflow") < found.why.index("slow")
    np.testing.assert_array_equal(found.run(INPUTS)[0], INPUTS[0])
    compiled = engines["slow"].compiled
    again, _ = choose(**engines)
    assert (again.name, engines["slow"].compiled) == ("fast", compiled)
    assert again.why.endswith("as measured before")
    changed, _ = choose(**engines, new=engine(0.0))  # with another engine installed all are measured again
    assert changed.name == "new"


def test_one_that_differs_from_tensorflow_is_not_used(choose):
    found, said = choose(tensorflow=engine(0.01), wrong=engine(0.0, off=0.01), right=engine(0.002, off=1e-5))
    assert found.name == "right"
    assert "wrong differs from TensorFlow by 0.01 of the largest output" in said
    assert choose(tensorflow=engine(0.01), nan=engine(0.0, off=float("nan")))[0].name == "tensorflow"


def test_bfloat16_is_chosen_where_it_is_faster_and_hardly_changes_anything(choose):
    slow = engine(0.02)
    found, _ = choose(precision="auto", tensorflow=slow, fast=engine(0.01, rounded=(0.001, 1e-3)))
    assert (found.name, found.precision) == ("fast", "bfloat16")
    assert found.why.startswith("fast in bfloat16 ")
    again, _ = choose(precision="auto", tensorflow=slow, fast=engine(0.01, rounded=(0.001, 1e-3)))
    assert (again.name, again.precision, again.why.endswith("as measured before")) == ("fast", "bfloat16", True)


def test_bfloat16_is_not_chosen_where_it_changes_features_or_hardly_pays(choose):
    found, said = choose(precision="auto", tensorflow=engine(0.02), noisy=engine(0.01, rounded=(0.001, 0.1)))
    assert (found.name, found.precision) == ("noisy", "float32")
    assert "The engine noisy in bfloat16 changes outputs by" in said and "not used" in said
    found, _ = choose(precision="auto", tensorflow=engine(0.02), close=engine(0.010, rounded=(0.0095, 0.0)))
    assert (found.name, found.precision) == ("close", "float32")
    found, _ = choose(precision="auto", tensorflow=engine(0.02), nan=engine(0.01, rounded=(0.001, float("nan"))))
    assert found.precision == "float32"


def test_remembered_bfloat16_must_suit_these_weights_and_data(choose):
    engines = {"tensorflow": engine(0.02), "fast": engine(0.01, rounded=(0.001, 1e-3))}
    assert choose(precision="auto", **engines)[0].precision == "bfloat16"
    found, said = choose(precision="auto", tensorflow=engine(0.02), fast=engine(0.01, rounded=(0.001, 0.3)))
    assert (found.name, found.precision) == ("fast", "float32")
    assert "not used" in said


def test_bfloat16_of_an_engine_whose_float32_is_wrong_is_not_used(choose):
    found, _ = choose(precision="auto", tensorflow=engine(0.02), wrong=engine(0.01, off=0.01, rounded=(0.001, 0.0)))
    assert (found.name, found.precision) == ("tensorflow", "float32")


def test_an_engine_that_is_asked_for_may_still_choose_its_precision(choose):
    found, _ = choose(wanted="fast", precision="auto", tensorflow=engine(), fast=engine(0.01, rounded=(0.001, 1e-3)))
    assert (found.name, found.precision) == ("fast", "bfloat16")
    found, _ = choose(wanted="fast", precision="float32", tensorflow=engine(), fast=engine(0.01, rounded=(0.001, 1e-3)))
    assert found.precision == "float32"


def test_one_that_fails_is_passed_over(choose):
    found, said = choose(tensorflow=engine(0.001), broken=engine(fails=True))
    assert found.name == "tensorflow"
    assert "broken cannot run this backbone (no such operation)." in said
    with pytest.raises(
        UserError, match=r"--runtime.engine=broken: broken cannot run this backbone \(no such operation\)"
    ):
        choose(wanted="broken", tensorflow=engine(), broken=engine(fails=True))


def test_little_work_is_not_worth_a_comparison(choose):
    other = engine()
    found, _ = choose(batches=5, tensorflow=engine(0.001), other=other)
    assert (found.name, found.why, other.compiled) == ("tensorflow", "", 0)


def test_a_damaged_memory_is_forgotten(choose, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "engines.json").write_text('{"a": 3')
    assert choose(tensorflow=engine(0.01), fast=engine())[0].name == "fast"


def test_freezing_makes_constants_of_variables():
    variable = tf.Variable([1.0, 2.0])
    frozen = _choice.freeze(lambda x: {"b": x * variable, "a": x}, tf.TensorSpec((4, 2), tf.float32))
    variable.assign([0.0, 0.0])
    np.testing.assert_array_equal(frozen(tf.constant(INPUTS[0]))[1], INPUTS[0] * [1.0, 2.0])


def test_one_example_tells_nothing_of_what_rounding_changes():
    one = [np.ones((1, 3), np.float32)]
    assert "single example" in _choice.unlike(one, one, "bfloat16")
    assert not _choice.unlike(one, one, "float32")
