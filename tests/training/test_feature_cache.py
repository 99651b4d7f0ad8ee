import io

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Input, Optim
from tfpt.console import Console
from tfpt.data.folder import Folder
from tfpt.registry import find
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training import freezing
from tfpt.training.assembly import assemble, copy_variables, seeded
from tfpt.training.evaluate import progress_evaluation
from tfpt.training.feature_cache import cache_features, head_on_cached
from tfpt.training.loop import compiled_steps
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches
from tfpt.training.plan import evaluation_plan, training_plan
from tfpt.training.updates import Updates

STATE = {"classes": ["blue", "green", "red"]}
TASK = ImageClassification()
EXAMPLES = np.arange(1, 36, 3)
EVALUATED = np.array([0, 2, 5, 6, 33])
BATCH = 5


class Labelled(ImageClassification):
    """A task whose batches hold more than inputs, targets and weight, and whose targets are a structure."""

    def batch(self, features, frame, state, training):
        made = super().batch(features, frame, state, training)
        return {**made, "targets": {"label": features["label"]}, "more": features["label"] * 2}


class Bare(ImageClassification):
    """A task without targets."""

    def batch(self, features, frame, state, training):
        return {"inputs": features["image"], "weight": features["weight"]}


@pytest.fixture(scope="module")
def parts(pictures):
    backbone = find("backbone", "tiny")()
    preprocessor = backbone.preprocessor(Input(image_size=16))
    assembly = assemble(TASK, STATE, {"trunk": backbone}, {"trunk": preprocessor}, precision="float32", seed=0)
    freezing.set_trainable(assembly, unfreeze="none", train_batch_norm=True)
    return assembly, Prepared(Folder(str(pictures)), [preprocessor], threads=2)


def cached_of(parts, task=TASK, examples=None):
    assembly, prepared = parts
    return cache_features(
        assembly.trunks,
        prepared,
        np.concatenate([EXAMPLES, EVALUATED]) if examples is None else examples,
        batch_size=7,
        task=task,
        state=STATE,
        console=Console(stream=io.StringIO()),
    )


def rows_of(epochs=3):
    return iter([(e, row) for e in range(epochs) for row in training_plan(EXAMPLES, batch_size=BATCH, seed=0, epoch=e)])


def train(model, data, groups):
    updates = Updates(groups, Optim(), learning_rate=0.02, steps=9)
    losses, *_ = compiled_steps(TASK, model, updates, None, accumulate=1)(iter(data), tf.constant(9))
    return losses.numpy()


def test_a_head_on_cached_features_trains_as_on_the_frozen_trunk(parts):
    assembly, prepared = parts
    cached = cached_of(parts)
    head = head_on_cached(TASK, STATE, cached)
    copy_variables(assembly.head_variables(), head.variables)
    options = {"task": TASK, "state": STATE}
    whole = training_batches(prepared, rows_of, batch_size=BATCH, augmentation=Augmentation(), **options)
    groups = freezing.rate_groups(assembly, Optim(), unfreeze="none", head_multiplier=1.0)
    wanted = train(assembly.model, whole, groups)
    losses = train(
        head,
        cached.training_batches(rows_of, batch_size=BATCH),
        [freezing.RateGroup(1.0, tuple(head.trainable_variables))],
    )
    np.testing.assert_allclose(losses, wanted, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(head.variables, assembly.head_variables(), strict=True):
        assert np.abs(ours.numpy()).max() > 1e-3
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)
    rows = evaluation_plan(EVALUATED, batch_size=3)
    through = progress_evaluation(TASK, STATE, assembly.model, evaluation_batches(prepared, rows, **options))()
    on_cached = progress_evaluation(TASK, STATE, head, cached.evaluation_batches(rows))()
    assert on_cached == {name: pytest.approx(value, abs=1e-5) for name, value in through.items()}


def test_rows_and_fillers_find_their_example(parts):
    (batch,) = cached_of(parts).evaluation_batches(np.array([[33, 4, 0, ~4]]))
    assert batch["example"].numpy().tolist() == [33, 4, 0, 4]
    assert batch["weight"].numpy().tolist() == [1, 1, 1, 0]
    assert batch["targets"].numpy().tolist() == [2, 0, 0, 0]
    np.testing.assert_array_equal(batch["inputs"]["pooled"][1], batch["inputs"]["pooled"][3])
    assembly, prepared = parts
    (whole,) = evaluation_batches(prepared, np.array([[33, 4, 0, ~4]]), task=TASK, state=STATE)
    found = assembly.trunks["trunk"](whole["inputs"])["pooled"]
    np.testing.assert_allclose(batch["inputs"]["pooled"], found, atol=1e-5)


def test_all_that_a_task_puts_into_a_batch_is_kept(parts):
    (batch,) = cached_of(parts, Labelled()).evaluation_batches(np.array([[33, 4]]))
    assert batch["targets"]["label"].numpy().tolist() == [2, 0]
    assert batch["more"].numpy().tolist() == [4, 0]


def test_a_task_needs_no_targets(parts):
    (batch,) = cached_of(parts, Bare()).evaluation_batches(np.array([[33, 4]]))
    assert set(batch) == {"inputs", "weight", "example", "ok"}


def test_the_head_of_a_seed_is_the_head_of_that_seed(parts):
    cached = cached_of(parts, examples=EVALUATED)
    with seeded(3):
        first = head_on_cached(TASK, STATE, cached)
    with seeded(3):
        again = head_on_cached(TASK, STATE, cached)
    for ours, theirs in zip(first.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
