"""What holds for every task: one way from a raw example to an answer, in training, evaluation and serving."""

import numpy as np
import pytest
import tensorflow as tf

from tfpt import registry
from tfpt.config import Input
from tfpt.serving import bundle, parity
from tfpt.serving.servable import Servable
from tfpt.tasks import Task
from tfpt.training.assembly import assemble
from tfpt.training.pipeline import Prepared

MODALITIES = {"image": ("tiny:conv", "folder:{pictures}")}
"""A small backbone and data for each modality that a task can stand on; {pictures} is the folder of the fixture."""
COUNT = 8


def make(name, pictures):
    """Returns a servable of a task with a random head, its data, and a few examples with what the task learned."""
    task = registry.find("task", name)()
    trunk, data = MODALITIES[task.modalities[0]]
    kind, argument = registry.split_reference(trunk)
    backbones = {"trunk": registry.find("backbone", kind)(argument)}
    kind, argument = registry.split_reference(data.format(pictures=pictures))
    source = registry.find("data", kind)(argument)
    preprocessors = {"trunk": backbones["trunk"].preprocessor(Input(image_size=16))}
    examples = np.arange(0, source.info().size, source.info().size // COUNT)[:COUNT]
    state = task.adapt(source, examples)
    made = assemble(task, state, backbones, preprocessors, precision="float32", seed=0)
    random = np.random.default_rng(0)
    for variable in made.head_variables():  # heads start at zero, where all answers are equal
        if variable.dtype == "float32":
            variable.assign(random.normal(size=variable.shape))
    servable = Servable.of(task=task, state=state, model=made.model, trunks=made.trunks, preprocessors=preprocessors)
    return servable, source, examples


@pytest.mark.parametrize("name", registry.names("task"))
def test_served_equals_decoded_predictions_before_and_after_save_and_load(name, pictures, tmp_path):
    servable, source, examples = make(name, pictures)
    task, state = servable.task, servable.state
    (preprocessor,) = servable.preprocessors.values()
    found = [source.example(tf.constant(k)) for k in examples]
    raw = {feature: [one[feature].numpy() for one in found] for feature in preprocessor.raw_features}
    hosted = [preprocessor.host(*map(tf.constant, one)) for one in zip(*raw.values(), strict=True)]
    features = {preprocessor.feature: tf.stack([value for value, _ in hosted]), "weight": tf.ones([len(hosted)])}
    frame = {preprocessor.feature: tf.nest.map_structure(lambda *parts: tf.stack(parts), *[f for _, f in hosted])}
    inputs = task.batch(features, frame, state, False)["inputs"]
    wanted = {k: v.numpy() for k, v in task.decode(task.predict(servable.model, inputs), frame, state).items()}
    _assert_same(servable.predict(raw), wanted)
    bundle.save(servable, tmp_path / "1", model_name=name)
    found = parity.prove(tmp_path / "1", raw, wanted, batch_size=len(hosted))
    assert (found.passed, found.reason) == (True, "")
    loaded = Servable.load(tmp_path)
    assert (type(loaded.task), loaded.state) == (type(task), state)
    assert list(loaded.preprocessors.values()) == list(servable.preprocessors.values())
    _assert_same(loaded.predict(raw), wanted)
    ours, theirs = (
        {k: v.numpy() for k, v in task.decode(one.outputs(inputs), frame, state).items()} for one in (loaded, servable)
    )
    _assert_same(ours, theirs)


def _assert_same(answer, wanted):
    found = parity.compare(wanted, answer, seconds=0.0)
    assert (found.passed, found.reason) == (True, "")
    assert found.max_difference < 1e-5


@pytest.mark.parametrize("name", registry.names("task"))
def test_a_task_defines_what_a_task_must(name):
    task = registry.find("task", name)()
    for method in ("batch", "build", "decode"):
        assert getattr(type(task), method) is not getattr(Task, method), method
    assert task.primary.name in task.metric_names()
    assert set(task.proportions) <= set(task.metric_names())
    assert task.modalities
    assert type(task).__doc__


@pytest.mark.parametrize("name", registry.names("task"))
def test_metrics_are_those_that_are_named(name, pictures):
    servable, source, examples = make(name, pictures)
    task = servable.task
    prepared = Prepared(source, list(servable.preprocessors.values()), threads=1)
    features, frame, _ = (
        tf.data.Dataset.from_tensor_slices(examples).map(prepared.read).batch(COUNT).get_single_element()
    )
    batch = task.batch({**features, "weight": tf.ones([COUNT])}, frame, servable.state, False)
    loss_sum, weight_sum, outputs = task.loss(servable.model, batch, False)
    assert (loss_sum.shape, float(weight_sum)) == ((), COUNT)
    statistics = {k: v.numpy() for k, v in task.statistics(outputs, batch).items()}
    assert all(len(value) == COUNT for value in statistics.values())
    assert set(task.metrics(statistics, servable.state)) == set(task.metric_names())
