"""The digits are scikit-learn's, as PNG files."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from tfpt.config import Input
from tfpt.data.digits import Digits
from tfpt.errors import UserError
from tfpt.training.splits import split


def test_pixels_and_labels():
    source = Digits()
    pixels, labels = load_digits(return_X_y=True)
    np.testing.assert_array_equal(source.index().labels, labels)
    dataset = tf.data.Dataset.range(source.info().size).map(source.example)
    for k, example in enumerate(dataset):
        image = Image.open(io.BytesIO(example["image"].numpy()))
        assert image.format == "PNG" and image.mode == "L" and image.size == (8, 8)
        np.testing.assert_allclose(np.asarray(image), pixels[k].reshape(8, 8) / 16 * 255, atol=0.5)
        assert example["label"].dtype == tf.int64 and example["label"] == labels[k]
    assert k == 1796


def test_table():
    source = Digits()
    info, index = source.info(), source.index()
    assert info.classes == tuple("0123456789") and info.size == 1797
    assert index.names[0] == "digit-0000" and index.names[1] == "digit-0001" and len(set(index.names)) == 1797
    assert set(index.splits) == {""}
    assert list(source.digests()) == list(Digits().digests()) and {len(d) for d in source.digests()} == {16}


def test_splits():
    source = Digits()
    splits = split(source.index(), source.digests(), Input(), classes=source.info().classes)
    assert abs(len(splits.train) / 1797 - 0.7) < 0.03 and not splits.notes


def test_takes_no_argument():
    with pytest.raises(UserError, match="write --data=digits"):
        Digits("mnist")
