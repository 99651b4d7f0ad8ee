import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Input, Optim
from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training import freezing
from tfpt.training.assembly import assemble
from tfpt.training.loop import compiled_steps
from tfpt.training.updates import Updates

STATE = {"classes": ["a", "b", "c"]}
SIDE = 16


def make_assembly(names=("trunk",)):
    backbone = find("backbone", "tiny")()
    preprocessor = backbone.preprocessor(Input(image_size=SIDE))
    return assemble(
        ImageClassification(),
        STATE,
        dict.fromkeys(names, backbone),
        dict.fromkeys(names, preprocessor),
        precision="float32",
        seed=0,
    )


@pytest.fixture
def assembly():
    return make_assembly()


@pytest.fixture(scope="module")
def untrained():
    """An assembly whose values nobody changes; what trains in it, each test says anew."""
    return make_assembly()


def train_a_little(assembly, optim, *, unfreeze, head_multiplier=1.0, steps=2):
    """Trains with AdamW, and returns the names of the variables that changed."""
    before = {v.path: v.numpy() for v in assembly.model.variables}
    groups = freezing.rate_groups(assembly, optim, unfreeze=unfreeze, head_multiplier=head_multiplier)
    updates = Updates(groups, optim, learning_rate=0.01, steps=steps)
    random = np.random.default_rng(0)
    batch = {
        "inputs": random.integers(0, 256, (steps, 6, SIDE, SIDE, 3)).astype(np.uint8),
        "targets": random.integers(0, 3, (steps, 6)),
        "weight": np.ones((steps, 6), "float32"),
        "example": np.zeros((steps, 6), np.int64),
        "ok": np.ones((steps, 6), bool),
    }
    call = compiled_steps(ImageClassification(), assembly.model, updates, None, accumulate=1)
    call(iter(tf.data.Dataset.from_tensor_slices(batch)), tf.constant(steps))
    return {v.path for v in assembly.model.variables if not np.array_equal(v.numpy(), before[v.path])}


def blocks(*numbers, statistics=True):
    normalised = ("gamma", "beta", *(("moving_mean", "moving_variance") if statistics else ()))
    return {f"block{k}_conv/kernel" for k in numbers} | {f"block{k}_bn/{name}" for k in numbers for name in normalised}


HEAD = {"head/kernel", "head/bias"}


@pytest.mark.parametrize(
    ("unfreeze", "batch_norm", "changed"),
    [
        ("none", True, HEAD),
        ("all", True, HEAD | blocks(*range(6))),
        ("all", False, HEAD | {f"block{k}_conv/kernel" for k in range(6)}),
        ("last:2", True, HEAD | blocks(4, 5)),
        ("last:6", True, HEAD | blocks(*range(6))),
        ("regex:block3_", True, HEAD | blocks(3)),
        ("regex:block[45]_conv", True, HEAD | {"block4_conv/kernel", "block5_conv/kernel"}),
        ("regex:block3_", False, HEAD | {"block3_conv/kernel"}),
    ],
)
def test_frozen_variables_stay_bit_equal_and_the_others_move(assembly, unfreeze, batch_norm, changed):
    freezing.set_trainable(assembly, unfreeze=unfreeze, train_batch_norm=batch_norm)
    # the head starts at zero, so nothing below it gets a gradient before the second update
    assert train_a_little(assembly, Optim(warmup=0.0, weight_decay=0.1), unfreeze=unfreeze) == changed


def test_a_stage_can_freeze_what_the_stage_before_trained(assembly):
    for unfreeze, changed in (("all", HEAD | blocks(*range(6))), ("last:1", HEAD | blocks(5)), ("none", HEAD)):
        freezing.set_trainable(assembly, unfreeze=unfreeze, train_batch_norm=True)
        assert train_a_little(assembly, Optim(warmup=0.0), unfreeze=unfreeze) == changed


@pytest.mark.parametrize("layer_decay", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("head_multiplier", [1.0, 3.0, 0.0])
@pytest.mark.parametrize("unfreeze", ["none", "all", "last:2"])
def test_rate_groups_hold_each_trainable_variable_once(untrained, unfreeze, layer_decay, head_multiplier):
    assembly = untrained
    freezing.set_trainable(assembly, unfreeze=unfreeze, train_batch_norm=True)
    groups = freezing.rate_groups(
        assembly, Optim(layer_decay=layer_decay), unfreeze=unfreeze, head_multiplier=head_multiplier
    )
    found = [v.path for group in groups for v in group.variables]
    assert sorted(found) == sorted(v.path for v in assembly.model.trainable_variables)
    rates = {v.path: group.multiplier for group in groups for v in group.variables}
    assert rates["head/kernel"] == head_multiplier
    for k in {"none": (), "all": range(6), "last:2": (4, 5)}[unfreeze]:
        assert rates[f"block{k}_conv/kernel"] == rates[f"block{k}_bn/gamma"] == layer_decay ** (6 - k)


def test_head_multiplier_zero_leaves_the_head_bit_equal(assembly):
    freezing.set_trainable(assembly, unfreeze="all", train_batch_norm=True)
    assembly.model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(128, 3)))
    changed = train_a_little(assembly, Optim(warmup=0.0), unfreeze="all", head_multiplier=0.0)
    assert changed == blocks(*range(6))


@pytest.mark.parametrize(
    ("unfreeze", "says"),
    [("last:7", "has 6 groups"), ("regex:block9", "no variable matches; variables are called block")],
)
def test_a_policy_that_does_not_fit_is_said(assembly, unfreeze, says):
    with pytest.raises(UserError, match=f"--train.unfreeze={unfreeze}.*{says}"):
        freezing.set_trainable(assembly, unfreeze=unfreeze, train_batch_norm=True)


@pytest.mark.parametrize(
    ("steps", "unfreeze", "before", "after"),
    [
        (10, "all", 0.99, 0.9),
        (1000, "all", 0.99, 0.975),
        (10**6, "all", 0.99, 0.99),
        (10, "none", 0.99, 0.99),
        (10, "all", 0.5, 0.5),
    ],
)
def test_trained_batch_normalisation_gets_a_momentum_that_fits_the_stage(assembly, steps, unfreeze, before, after):
    layers = [
        layer for layer in assembly.trunks["trunk"].network.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(layers) == 6
    for layer in layers:
        layer.momentum = before
    freezing.set_trainable(assembly, unfreeze=unfreeze, train_batch_norm=True)
    told = freezing.fit_batch_norm_momentum(assembly, steps=steps)
    assert [layer.momentum for layer in layers] == [pytest.approx(after)] * 6
    assert told == ((before, pytest.approx(after)) if before != after else None)


def test_frozen_batch_normalisation_of_an_unfrozen_trunk_normalises_with_its_statistics(assembly):
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    trunk = assembly.trunks["trunk"]
    inference = trunk(pixels, training=False)["pooled"].numpy()
    freezing.set_trainable(assembly, unfreeze="all", train_batch_norm=False)
    training = trunk(pixels, training=True)[
        "pooled"
    ].numpy()  # one operation normalises, so it is equal but for rounding
    np.testing.assert_allclose(training, inference, rtol=1e-4, atol=1e-6)
    freezing.set_trainable(
        assembly, unfreeze="all", train_batch_norm=True
    )  # and back, though the trunk was never frozen
    assert np.abs(trunk(pixels, training=True)["pooled"].numpy() - inference).max() > 1e-3
