import numpy as np
import pytest
import tensorflow as tf

from tfpt import augment
from tfpt.augment.color_jitter import ColorJitter
from tfpt.augment.flip import Flip
from tfpt.augment.randaugment import Randaugment
from tfpt.augment.random_crop import RandomCrop
from tfpt.augment.random_erasing import RandomErasing
from tfpt.errors import UserError

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


def test_random_erasing_puts_noise_into_a_rectangle_of_the_size_that_is_asked():
    op = RandomErasing(probability=0.7, smallest=0.2, largest=0.5, stretch=2.0)
    shares, shapes = [], set()
    for one in results(op, count=120):
        changed = (one != PICTURE).any(-1)
        if not changed.any():
            continue
        rows, columns = changed.any(1), changed.any(0)
        box = changed[rows][:, columns]
        assert box.mean() > 0.95  # noise may hit a value that was there
        shapes.add(box.shape)
        shares.append(box.size / changed.size)
    assert 70 <= len(shares) <= 98
    assert 0.15 <= min(shares) < 0.25
    assert 0.4 < max(shares) <= 0.56
    assert any(tall > wide for tall, wide in shapes)
    assert any(tall < wide for tall, wide in shapes)


def test_color_jitter_changes_each_thing_alone():
    for name, index in (("brightness", 0), ("saturation", 1)):
        weak = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
        made = results(ColorJitter(**{**weak, name: 0.3}))
        factors = []
        for one in made:
            if index == 0:
                inner = (one < 255) & (PICTURE > 40)
                factors.append(np.median(one[inner] / PICTURE[inner]))
            else:
                factors.append(np.median((one.max(-1) - one.min(-1)) / (PICTURE.max(-1) - PICTURE.min(-1)).clip(1)))
        assert 0.68 < min(factors) < 0.8
        assert 1.15 < max(factors) < 1.32
    assert np.array_equal(results(ColorJitter(0.0, 0.0, 0.0, 0.0))[0], PICTURE)


def test_randaugment_makes_many_different_pictures_of_one():
    made = results(Randaugment(n=2, magnitude=9))
    assert {(one.shape, one.dtype.name) for one in made} == {(PICTURE.shape, "uint8")}
    assert len({one.tobytes() for one in made}) > 30


@pytest.mark.parametrize(
    "op", [Flip(), RandomCrop(pad=3), RandomErasing(probability=1.0), ColorJitter(), Randaugment()], ids=str
)
def test_equal_seeds_give_equal_pixels(op):
    first = results(op)
    assert np.array_equal(first, results(op))
    assert len({one.tobytes() for one in first}) > 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("random_erasing(probability=2)", "not between 0 and 1"),
        ("random_erasing(smallest=0.5)", "not growing shares"),
        ("random_erasing(stretch=0.5)", "below 1"),
        ("color_jitter(brightness=2)", "brightness=2 is not between"),
        ("color_jitter(hue=0.7)", "hue=0.7 is not between"),
        ("randaugment(0)", "n=0 is not between"),
        ("randaugment(2.5)", "n=2.5 is not between"),
        ("randaugment(2, 11)", "magnitude=11 is not between"),
    ],
)
def test_strengths_are_checked(text, says):
    with pytest.raises(UserError, match=says):
        augment.parse(text)
