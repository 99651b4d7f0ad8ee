"""Every task's training and evaluation step compiles under XLA for fixed shapes, as a TPU needs, in bfloat16 too."""

import numpy as np
import pytest
import tensorflow as tf
from test_task_contract import CASES, make
from test_task_contract import paths as paths  # a fixture

from tfpt.config import Optim
from tfpt.training.assembly import assemble
from tfpt.training.freezing import rate_groups, set_trainable
from tfpt.training.updates import Updates


def compiled(servable, batch, precision):
    """Returns what goes to the device of a batch, and both steps of the task in a precision."""
    task, state = servable.task, servable.state
    backbones = {"trunk": BACKBONES[task.modalities[0]]()}
    made = assemble(task, state, backbones, servable.preprocessors, precision=precision, seed=0)
    set_trainable(made, unfreeze="all", train_batch_norm=True)
    groups = rate_groups(made, Optim(), unfreeze="all", head_multiplier=1.0)
    updates = Updates(groups, Optim(), learning_rate=0.01, steps=9)
    values = [v.value for v in updates.trained]
    device = without_texts({k: v for k, v in batch.items() if k not in ("frame", "example", "ok")})

    def train(part):
        with tf.GradientTape() as tape:
            loss_sum, weight_sum, _ = task.loss(made.model, part, True)
        found = tape.gradient(loss_sum / weight_sum, values, unconnected_gradients="zero")
        updates.apply(found)
        return loss_sum

    def evaluate(part):
        return task.loss(made.model, part, False)[0]

    return device, train, evaluate


def without_texts(values):
    """Leaves out the texts that only metrics read: an evaluation's batch may hold them, a training's does not."""
    if not isinstance(values, dict):
        return values
    return {k: without_texts(v) for k, v in values.items() if isinstance(v, dict) or v.dtype != tf.string}


def _tiny(argument):
    from tfpt.backbones.tiny import Tiny

    return lambda: Tiny(argument)


def _toy_words():
    from toys.toy_words import ToyWords

    return ToyWords()


BACKBONES = {"image": _tiny("conv"), "text": _toy_words}


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "data"), CASES)
def test_the_steps_of_every_task_compile_under_xla(name, data, precision, paths):
    servable, batch, _ = make(name, paths, data)
    batch, train, evaluate = compiled(servable, batch, precision)
    plain = float(evaluate(batch))
    for step in (evaluate, train):
        try:
            loss = tf.function(step, jit_compile=True, autograph=False)(batch)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            pytest.fail(f"{name}: {step.__name__} does not compile: {str(error)[:400]}")
        assert np.isfinite(float(loss))
        if step is evaluate:
            assert float(loss) == pytest.approx(plain, rel=1e-4 if precision == "float32" else 5e-2)


def test_what_does_not_compile_is_named():
    step = tf.function(lambda x: tf.strings.length(tf.strings.as_string(x)), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="AsString"):
        step(tf.constant(1.0))
