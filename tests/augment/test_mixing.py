"""Operations that mix examples of a batch, with the numbers worked out again in numpy."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfpt import augment, registry
from tfpt.augment._mixing import neighbour_shares
from tfpt.augment.cutmix import Cutmix
from tfpt.augment.mixup import Mixup
from tfpt.backbones.tiny import Tiny
from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.pipeline import Augmentation, Prepared, training_batches

BATCH, CLASSES = 24, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (BATCH, 10, 12, 3)).astype(np.uint8)
TARGETS = np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]  # no two neighbours are of one class
SEEDS = np.stack([np.arange(BATCH), np.full(BATCH, 9)], axis=1).astype(np.int32)


def mixed(op, pixels=PIXELS, targets=TARGETS, seeds=SEEDS):
    inputs, made = tf.function(op.batch)(tf.constant(pixels), tf.constant(targets), tf.constant(seeds))
    return inputs.numpy(), made.numpy()


def share_of_neighbour(targets):
    return 1.0 - targets[np.arange(BATCH), np.arange(BATCH) % CLASSES]


def test_mixup_blends_pixels_and_targets_by_one_share():
    pixels, targets = mixed(Mixup(alpha=1.0))
    share = share_of_neighbour(targets)
    np.testing.assert_allclose(targets.sum(1), 1.0, rtol=1e-5)
    wide = share[:, None, None, None]
    wanted = PIXELS * (1 - wide) + np.roll(PIXELS, 1, axis=0) * wide
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - wanted).max() <= 0.51
    assert share.min() < 0.3 < 0.7 < share.max()
    np.testing.assert_allclose(targets[np.arange(BATCH), (np.arange(BATCH) - 1) % CLASSES][1:], share[1:], atol=1e-6)


@pytest.mark.parametrize(("alpha", "wanted"), [(0.2, 0.178), (1.0, 0.0833), (5.0, 0.0227)])
def test_shares_are_drawn_from_a_beta_distribution(alpha, wanted):
    seeds = np.stack([np.arange(2000), np.zeros(2000)], axis=1).astype(np.int32)
    shares = tf.function(lambda s: neighbour_shares(s, alpha=alpha, probability=1.0))(seeds).numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(wanted, rel=0.1)  # 1 / (4 (2 alpha + 1))


def test_cutmix_puts_a_rectangle_of_the_neighbour_in_and_targets_go_by_its_area():
    pixels, targets = mixed(Cutmix(probability=1.0))
    other = np.roll(PIXELS, 1, axis=0)
    inside = (pixels == other).all(-1)
    assert ((pixels == PIXELS).all(-1) | inside).all()
    inside &= (other != PIXELS).any(-1)
    np.testing.assert_allclose(inside.mean((1, 2)), share_of_neighbour(targets), atol=1e-6)
    for one in inside:
        rows, columns = one.any(1), one.any(0)
        np.testing.assert_array_equal(one, rows[:, None] & columns[None])
        assert np.abs(np.diff(rows.astype(int))).sum() <= 2  # in one piece
    assert len({one.tobytes() for one in inside}) > 3


@pytest.mark.parametrize("op", [Mixup(alpha=2.0, probability=0.4), Cutmix(probability=0.4)])
def test_some_examples_are_left_as_they_are(op):
    pixels, targets = mixed(op)
    same = (pixels == PIXELS).all((1, 2, 3))
    assert 6 < same.sum() < 22
    np.testing.assert_array_equal(targets[same], TARGETS[same])


@pytest.mark.parametrize("op", [Mixup(), Cutmix(probability=1.0)])
def test_an_example_s_share_depends_on_its_own_seed_alone(op):
    _, targets = mixed(op)
    _, alone = mixed(op, seeds=np.concatenate([SEEDS[:1], SEEDS[1:] + 100]))
    np.testing.assert_array_equal(targets[0], alone[0])
    assert not np.array_equal(targets[1:], alone[1:])


def test_views_of_an_example_are_cut_alike():
    views = np.stack([PIXELS, 255 - PIXELS], axis=1)
    pixels, _ = mixed(Cutmix(probability=1.0), pixels=views)
    np.testing.assert_array_equal(pixels[:, 1], 255 - pixels[:, 0])
    pixels, _ = mixed(Mixup(), pixels=views)
    assert np.abs(pixels[:, 1].astype(int) - (255 - pixels[:, 0].astype(int))).max() <= 1


@pytest.mark.parametrize("op", [Mixup(), Cutmix()])
@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        (PIXELS, np.arange(BATCH), "has none that are shares"),
        ({"image": PIXELS, "text": np.zeros((BATCH, 4, 2), np.int32)}, TARGETS, "fed with more than these"),
    ],
)
def test_what_cannot_be_mixed_is_refused(op, inputs, targets, says):
    with pytest.raises(UserError, match=says):
        op.batch(tf.nest.map_structure(tf.constant, inputs), tf.constant(targets), tf.constant(SEEDS))


@pytest.mark.parametrize("text", ["mixup(0)", "mixup(probability=2)", "cutmix(-1)", "cutmix(probability=-0.1)"])
def test_strengths_are_checked(text):
    with pytest.raises(UserError, match=r"is not positive|between 0 and 1"):
        augment.parse(text)


def test_a_picture_that_cannot_be_read_is_not_mixed_into_others(tmp_path):
    for name, value in (("a", 200), ("b", 100)):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.new("RGB", (16, 16), (value,) * 3).save(tmp_path / name / f"{k}.png")
    source = registry.find("data", "folder")(str(tmp_path))
    index = source.index()  # the file is there, and is none when it is read
    (tmp_path / index.names[1]).write_bytes(b"no picture")
    prepared = Prepared(source, [Tiny().preprocessor(Input(image_size=16))], threads=1)
    batches = training_batches(
        prepared,
        lambda: iter([(0, np.array([0, 1, 2, 3]))]),
        width=4,
        task=ImageClassification(),
        state={"classes": ["a", "b"], "labels": "single", "counts": [2, 2]},
        augmentation=Augmentation(ops=augment.parse("mixup(50.0)")),
    )
    (batch,) = batches.as_numpy_iterator()
    assert batch["weight"].tolist() == [1.0, 0.0, 1.0, 1.0]
    means = batch["inputs"][..., 0].mean((1, 2))
    assert means[2] == pytest.approx(150, abs=25)  # b with a, not with a black picture
    assert batch["targets"][2].sum() == pytest.approx(1.0)
