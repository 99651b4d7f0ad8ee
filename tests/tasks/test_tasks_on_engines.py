"""Every task's validation metrics are the same when an engine computes the model's outputs."""

import numpy as np
import pytest
import tensorflow as tf
from test_task_contract import CASES, make
from test_task_contract import paths as paths  # a fixture

from tfpt import registry
from tfpt.console import Console
from tfpt.training.engine_evaluation import EngineEvaluation
from tfpt.training.evaluate import progress_evaluation

ENGINES = ["toys.toy_engine", "openvino"]


def evaluations(servable, batch, engine):
    """Returns the evaluation of one batch by TensorFlow and by an engine, and what the latter decided."""
    batches, decided = tf.data.Dataset.from_tensors(batch), []
    plain = progress_evaluation(servable.task, servable.state, servable.model, batches)
    on_engine = EngineEvaluation(
        plain,
        servable.model,
        wanted=engine,
        precision="auto",
        trained_in="float32",
        threads=1,
        examples=len(batch["weight"]),
        times=1,
        begun="",
        keep=decided.append,
    )
    return plain, on_engine, decided


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "data"), CASES)
def test_metrics_are_those_of_tensorflow_and_follow_the_weights(name, data, engine, paths):
    if not registry.find("engine", engine).version():
        pytest.skip(f"{engine} is not installed")
    servable, batch, _ = make(name, paths, data)
    plain, on_engine, decided = evaluations(servable, batch, engine)
    console = Console(quiet=True)
    found = []
    for scale in (1.0, 1.1):
        for variable in servable.model.trainable_variables:
            variable.assign(variable * scale)
        wanted = plain(lambda: None, console)
        found.append(on_engine(lambda: None, console))
        assert found[-1].keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_allclose(found[-1][key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    assert decided == [f"{engine} float32"]
    assert found[0]["loss"] != found[1]["loss"]
