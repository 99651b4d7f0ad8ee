"""Other engines run the model only where they answer as TensorFlow does."""

import base64
import io

import numpy as np
import pytest

from tfpt import registry
from tfpt.config import Runtime
from tfpt.console import Console
from tfpt.engines import Engine
from tfpt.errors import UserError
from tfpt.server.engine import EngineRunner, put_on_engine
from tfpt.server.model import TensorflowRunner


def test_the_server_answers_from_the_engine_that_was_asked_for(serve, first, pets, whole, encoded):
    rows = [{"b64": base64.b64encode(value).decode()} for value in encoded[:3]]
    with serve(first, name="pets", engine="openvino", batch_size=2) as client:
        code, answer = client.post("predict", {"instances": rows})
        said = "".join(client.lines)
        assert type(model_of(client).runner) is EngineRunner
    assert code == 200 and "The model runs on openvino (" in said
    wanted = whole.predict({"image": encoded[:3]})["scores"]
    np.testing.assert_allclose([row["scores"] for row in answer["predictions"]], wanted, atol=1e-4)
    assert type(model_of(pets).runner) is TensorflowRunner and "runs on" not in "".join(pets.lines)


def model_of(client):
    with client.serving.versions.lease(name=client.serving.name) as (_, model):
        return model


def fake(*, off=0.0, fails=False):
    class Fake(Engine):
        extra = "fake"

        @classmethod
        def version(cls):
            return "1"

        def compile(self, graph, *, precision, threads):
            if fails:
                raise RuntimeError("no such operation\nand more")
            return lambda inputs: [graph(*map(tf_constant, inputs))[0].numpy() + off * np.arange(5)]

    from tensorflow import constant as tf_constant

    return Fake


@pytest.fixture
def put_on(cut, monkeypatch):
    """Puts the picture classifier on an engine that is made up: returns which one it was, and what was said."""
    find, before = registry.find, cut.runner
    monkeypatch.setattr(registry, "names", lambda kind: ["fake", "tensorflow"])
    monkeypatch.setattr(Runtime, "__post_init__", lambda self: None)  # which knows the real engines only

    def put_on(engine, wanted="auto"):
        monkeypatch.setattr(registry, "find", lambda kind, name: engine if name == "fake" else find(kind, name))
        console = Console(stream=io.StringIO())
        return put_on_engine(cut, Runtime(engine=wanted), console=console), console.stream.getvalue()

    yield put_on
    cut.runner = before


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (fake(off=0.01), "it answers otherwise than TensorFlow: a score differs by"),
        (fake(fails=True), "it cannot run the model (no such operation)"),
    ],
)
def test_an_engine_that_fails_the_proof_does_not_serve(cut, put_on, engine, says):
    before = cut.runner
    name, said = put_on(engine)
    assert name == "tensorflow" and f"The engine fake is not used: {says}" in said
    assert cut.runner is before
    with pytest.raises(UserError, match=r"--runtime\.engine=fake: it") as error:
        put_on(engine, "fake")
    assert says in str(error.value) and "write tensorflow or auto" in str(error.value)
    assert cut.runner is before


@pytest.mark.parametrize(("seconds", "wanted"), [(0.001, "fake"), (0.1, "tensorflow")])
def test_of_engines_that_agree_the_fastest_serves(cut, put_on, monkeypatch, seconds, wanted):
    times = iter([0.01, seconds])
    monkeypatch.setattr("tfpt.server.engine._seconds", lambda model, works: next(times))
    name, said = put_on(fake())
    assert name == wanted and ("runs on fake" in said) == (wanted == "fake")
    assert type(cut.runner) is (EngineRunner if wanted == "fake" else TensorflowRunner)
