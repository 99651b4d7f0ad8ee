import dataclasses

import numpy as np
import pytest

from tfpt.config import Input
from tfpt.registry import find
from tfpt.serving import bundle, parity
from tfpt.serving.servable import Servable
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.assembly import assemble

ANSWERS = {
    "scores": np.array([[0.7, 0.3], [0.50003, 0.49997], [0.1, 0.9]], np.float32),
    "label": np.array([b"a", b"a", b"\xc3\xa4"], object),
}


def changed(**values):
    return {name: np.array(values.get(name, answer), answer.dtype) for name, answer in ANSWERS.items()}


def test_equal_answers_pass():
    found = parity.compare(ANSWERS, changed(), seconds=1.0)
    assert (found.passed, found.examples, found.max_difference, found.different) == (True, 3, 0.0, 0)


def test_differences_below_the_tolerance_pass_even_where_they_turn_a_close_call():
    found = parity.compare(
        ANSWERS,
        changed(scores=ANSWERS["scores"] + [[0, 0], [-0.00005, 0.00005], [0, 0]], label=[b"a", b"b", b"\xc3\xa4"]),
        seconds=1.0,
    )
    assert found.passed
    assert found.max_difference == pytest.approx(5e-5, rel=0.1)


def test_answers_of_varying_length_are_compared_without_their_padding():
    label = np.array([[b"PER", b""], [b"", b""]], object)
    expected = {"label": label, "score": np.array([[0.9, 0.0], [0.0, 0.0]], np.float32)}
    shorter = {"label": label[:, :1].astype("S"), "score": expected["score"][:, :1]}
    assert parity.compare(expected, shorter, seconds=1.0).passed
    assert parity.compare(shorter, expected, seconds=1.0).passed
    none = {"label": np.zeros((2, 0), object), "score": np.zeros((2, 0), np.float32)}
    assert parity.compare(none, {**none}, seconds=1.0).passed
    found = parity.compare(expected, none, seconds=1.0)
    assert (found.passed, found.different) == (False, 1)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (changed(scores=ANSWERS["scores"] + 2e-4), "a score differs by 0.0002"),
        (changed(label=[b"a", b"a", b"b"]), "1 of 3 answers differ"),
        (changed(scores=[[0.7, 0.3], [0.5, 0.5], [np.nan, 0.9]]), "a score differs by inf"),
        ({"scores": ANSWERS["scores"]}, "other names or shapes"),
        ({name: answer[:2] for name, answer in ANSWERS.items()}, "other names or shapes"),
    ],
)
def test_other_answers_do_not_pass(answers, says):
    found = parity.compare(ANSWERS, answers, seconds=1.0)
    assert not found.passed
    assert says in found.reason


def test_up_to_2000_examples_are_compared():
    assert parity.choose(np.arange(100, 300), seed=0).tolist() == list(range(100, 300))
    examples = np.arange(7, 20_000, 4)
    chosen = parity.choose(examples, seed=0)
    assert len(set(chosen.tolist()) & set(examples.tolist())) == len(chosen) == 2000
    assert np.array_equal(chosen, parity.choose(examples, seed=0))
    assert not np.array_equal(chosen, parity.choose(examples, seed=1))


@pytest.fixture(scope="module")
def built(pictures):
    """A servable whose input has another name, its head, and raw examples."""
    backbone = find("backbone", "tiny")()
    preprocessors = {"trunk": backbone.preprocessor(Input(image_size=16))}
    task, state = ImageClassification(), {"classes": ["a", "b", "ä"]}
    made = assemble(task, state, {"trunk": backbone}, preprocessors, precision="float32", seed=0)
    servable = Servable.of(task=task, state=state, model=made.model, trunks=made.trunks, preprocessors=preprocessors)
    head = made.model.get_layer("head")
    head.kernel.assign(np.random.default_rng(0).normal(size=(128, 3)))
    files = [file.read_bytes() for file in sorted(pictures.rglob("*.png"))[:5]]
    return dataclasses.replace(servable, input_names={"image": "jpeg"}), head, files


@pytest.mark.slow
def test_a_fresh_process_answers_alike(built, tmp_path):
    servable, _, files = built
    expected = servable.predict({"image": files}, batch_size=2)
    bundle.save(servable, tmp_path / "1", model_name="m")
    found = parity.prove(
        tmp_path / "1", ({"image": file} for file in files), expected, batch_size=2, input_names=servable.input_names
    )
    assert (found.passed, found.examples, found.reason) == (True, 5, "")


@pytest.mark.slow
def test_a_fresh_process_does_not_when_a_weight_is_changed_or_a_file_is_damaged(built, tmp_path):
    servable, head, files = built
    raw, names = [{"image": file} for file in files], servable.input_names
    bundle.save(servable, tmp_path / "1", model_name="m")
    head.kernel.assign(head.kernel + 0.01 * np.random.default_rng(1).normal(size=(128, 3)))
    expected = servable.predict({"image": files}, batch_size=2)
    found = parity.prove(tmp_path / "1", raw, expected, batch_size=2, input_names=names)
    assert not found.passed
    assert "a score differs" in found.reason
    data = tmp_path / "1" / "variables" / "variables.data-00000-of-00001"
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    data.write_bytes(damaged)
    found = parity.prove(tmp_path / "1", raw, expected, batch_size=2, input_names=names)
    assert not found.passed
    assert "the fresh process failed" in found.reason


def test_numbers_beyond_one_are_compared_by_their_share():
    """float32 holds 250,000 to 0.016: an absolute tolerance would refuse every predicted price."""
    prices = {"values": np.array([[250_000.0], [-0.5]], np.float32)}
    assert parity.compare(prices, {"values": prices["values"] * np.float32(1 + 1e-6)}, seconds=1.0).passed
    for wrong in ([[250_050.0], [-0.5]], [[250_000.0], [-0.5002]]):
        assert not parity.compare(prices, {"values": np.array(wrong, np.float32)}, seconds=1.0).passed
