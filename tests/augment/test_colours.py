"""Changes of colour and place against Pillow's."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tfpt.augment import _colours
from tfpt.augment.randaugment import CHANGES

PIXELS = np.random.default_rng(0).integers(20, 200, (9, 14, 3)).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)
FLOATS = tf.constant(PIXELS, tf.float32)


def pixels(image):
    return _colours.to_pixels(image, tf.uint8).numpy()


def assert_close(ours, theirs, by):
    assert np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).max() <= by


@pytest.mark.parametrize("factor", [0.1, 0.7, 1.0, 1.6])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (_colours.brightness, ImageEnhance.Brightness),
        (_colours.contrast, ImageEnhance.Contrast),
        (_colours.saturation, ImageEnhance.Color),
        (_colours.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements(ours, theirs, factor):
    assert_close(pixels(ours(FLOATS, factor)), theirs(PICTURE).enhance(factor), by=2)  # Pillow rounds in between


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (_colours.autocontrast(FLOATS), ImageOps.autocontrast(PICTURE)),
        (_colours.posterize(FLOATS, 4.0), ImageOps.posterize(PICTURE, 4)),
        (_colours.posterize(FLOATS, 7.0), ImageOps.posterize(PICTURE, 7)),
        (_colours.solarize(FLOATS, 100.0), ImageOps.solarize(PICTURE, 100)),
    ],
)
def test_histograms(ours, theirs):
    assert_close(pixels(ours), theirs, by=1)


def test_equalized_values_are_about_equally_frequent():
    skewed = (40 + 100 * np.random.default_rng(0).uniform(size=(64, 64, 3)) ** 1.5).astype(np.uint8)
    made = pixels(_colours.equalize(tf.constant(skewed, tf.float32)))
    for channel in range(3):
        counts, _ = np.histogram(made[..., channel], bins=4, range=(0, 256))
        assert counts.min() / counts.max() > 0.8
        order = np.argsort(skewed[..., channel].ravel(), kind="stable")
        assert (np.diff(made[..., channel].ravel()[order].astype(int)) >= 0).all()


def test_a_picture_of_one_colour_stays_as_it_is():
    flat = tf.fill([8, 8, 3], 77.0)
    for change in (_colours.autocontrast, _colours.equalize, lambda image: _colours.sharpness(image, 1.9)):
        assert_close(pixels(change(flat)), np.full((8, 8, 3), 77), by=0)


def test_the_colour_circle_is_turned():
    red = tf.constant([[[255.0, 0.0, 0.0]]])
    assert pixels(_colours.hue(red, 1 / 3)).tolist() == [[[0, 255, 0]]]
    assert_close(pixels(_colours.hue(FLOATS, 0.0)), PIXELS, by=1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("rotate", lambda s: [np.cos(0.9 * np.pi / 6), -s * np.sin(0.9 * np.pi / 6), 0] * 1),
        ("shear_x", lambda s: [1, 0.27 * s, 0]),
        ("translate_x", lambda s: [1, 0, 0.27 * 14 * s]),
    ],
)
def test_geometry(name, matrix, sign):
    a, b, c = matrix(sign)
    d, e = (-b, a) if name == "rotate" else (0, 1)
    x, y = 14 / 2, 9 / 2  # Pillow's centre, of a picture whose pixels are squares
    inverse = (a, b, c + x - a * x - b * y, d, e, y - d * x - e * y)
    smooth = Image.fromarray(PIXELS).resize((14, 9), Image.Resampling.BOX)
    theirs = smooth.transform((14, 9), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR, fillcolor=(128,) * 3)
    ours = pixels(CHANGES[name](FLOATS, 0.9, tf.constant(sign)))
    inner = np.s_[2:-2, 5:-5]  # at the rim Pillow does not blend with the fill colour
    assert_close(ours[inner], np.asarray(theirs)[inner], by=2)
    assert (ours != PIXELS).any()


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_of_randaugment_does_something_and_more_at_a_higher_level(name):
    ramp = np.linspace(20, 180, 14)[None, :, None] + np.linspace(0, 30, 9)[:, None, None] * [1.0, 0.8, 0.6]
    picture = tf.constant(np.round(ramp + np.random.default_rng(0).normal(0, 5, ramp.shape)).clip(0, 255), tf.float32)
    moved = [np.abs(pixels(CHANGES[name](picture, level, tf.constant(1.0))) - picture).mean() for level in (0.3, 0.9)]
    if name == "identity":
        assert moved == [0, 0]
    elif name in ("autocontrast", "equalize"):
        assert moved[0] == moved[1] > 5
    else:
        assert 0 < moved[0] < moved[1]
