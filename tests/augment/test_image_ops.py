import numpy as np
import pytest
import tensorflow as tf

from tfpt.augment.flip import Flip
from tfpt.augment.random_crop import RandomCrop

PICTURE = np.random.default_rng(0).integers(0, 256, (10, 12, 3)).astype(np.uint8)


def results(op, count=40):
    changed = tf.function(lambda seed: op.example({"image": tf.constant(PICTURE), "label": 3}, seed))
    made = [changed(tf.constant([k, 7])) for k in range(count)]
    assert all(one["label"] == 3 for one in made)
    return [one["image"].numpy() for one in made]


def test_flip_mirrors_about_half():
    made = results(Flip())
    mirrored = [np.array_equal(one, PICTURE[:, ::-1]) for one in made]
    assert all(m or np.array_equal(one, PICTURE) for m, one in zip(mirrored, made, strict=True))
    assert 10 < sum(mirrored) < 30


@pytest.mark.parametrize(("pad", "pixels"), [(2, 2), (0.2, 2), (0.1, 1), (50, 9)])
def test_random_crop_shifts_by_up_to_its_pad_and_mirrors_the_rim(pad, pixels):
    padded = np.pad(PICTURE, ((pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
    places = set()
    for one in results(RandomCrop(pad=pad)):
        assert (one.shape, one.dtype) == (PICTURE.shape, np.uint8)
        found = [
            (y, x)
            for y in range(2 * pixels + 1)
            for x in range(2 * pixels + 1)
            if np.array_equal(one, padded[y : y + 10, x : x + 12])
        ]
        assert found
        places.add(found[0])
    assert len(places) > pixels * 4


@pytest.mark.parametrize("op", [Flip(), RandomCrop(pad=3)])
def test_equal_seeds_give_equal_pixels(op):
    assert np.array_equal(results(op), results(op))
