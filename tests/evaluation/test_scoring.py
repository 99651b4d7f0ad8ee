import io

import numpy as np
import pytest
import tensorflow as tf

from tfpt.console import Console
from tfpt.data import DataSource, Info
from tfpt.evaluation import scoring
from tfpt.evaluation.scoring import score
from tfpt.preprocessors.image import Image
from tfpt.serving.servable import Servable
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.pipeline import Prepared

BAD = 5


class Greys(DataSource):
    """Picture k is grey k; one is damaged."""

    def info(self):
        return Info(features={"image": "image", "label": "class"}, classes=("even", "odd"), size=20)

    def example(self, k):
        pixels = tf.fill([4, 4, 3], tf.cast(k, tf.uint8))
        return {"image": tf.where(k == BAD, b"damaged", tf.io.encode_png(pixels)), "label": k % 2}


class Plain(Image):
    def host(self, raw):
        return tf.io.decode_png(raw, channels=3), {}

    def frame_spec(self):
        return {}


@pytest.fixture
def servable():
    """Says of grey k that it is odd with the logit k / 10."""

    def outputs(inputs):
        grey = tf.cast(inputs[:, 0, 0, 0], tf.float32)
        return tf.stack([tf.zeros_like(grey), grey / 10], axis=1)

    return Servable(
        task=ImageClassification(),
        state={"classes": ["even", "odd"]},
        preprocessors={},
        outputs=outputs,
        answer=lambda **raw: {},
    )


@pytest.mark.parametrize("batch_size", [3, 4, 64])
def test_each_example_is_scored_once_in_its_place_and_the_damaged_one_is_left_out(servable, monkeypatch, batch_size):
    monkeypatch.setattr(scoring, "BATCH_SIZE", batch_size)
    prepared = Prepared(Greys(), [Plain(size=4)], threads=2)
    asked = np.array([7, 2, BAD, 11, 4, 19, 3])
    options = {"console": Console(stream=io.StringIO()), "what": "Scoring"}
    found = score(servable, prepared, asked, whole=[19, 2, BAD, 4, 18], **options)
    kept = np.array([7, 2, 11, 4, 19, 3])
    assert found.examples.tolist() == kept.tolist()
    assert prepared.failed == {BAD}
    assert found.statistics["label"].tolist() == (kept % 2).tolist()
    odd = 1 / (1 + np.exp(-kept / 10))
    assert set(found.kept) == {"scores"}
    np.testing.assert_allclose(found.kept["scores"][:, 1], odd, rtol=1e-5)
    assert all(len(value) == 6 for value in found.statistics.values())
    # the whole answers of those that were asked for, in the order of the scored ones
    assert kept[found.chosen].tolist() == [2, 4, 19]
    np.testing.assert_allclose(found.answers["scores"][:, 1], odd[found.chosen], rtol=1e-5)
    assert found.answers["label"].tolist() == [b"odd"] * 3
    assert {"label", "score", "scores", "classes"} == set(found.answers)
    assert all(len(value) == 3 for value in found.answers.values())


def test_no_whole_answer_is_kept_unless_it_is_asked_for(servable):
    prepared = Prepared(Greys(), [Plain(size=4)], threads=2)
    found = score(servable, prepared, np.array([7, 2]), console=Console(stream=io.StringIO()), what="Scoring")
    assert found.chosen.tolist() == []
    assert all(len(value) == 0 for value in found.answers.values())
    assert len(found.kept["scores"]) == 2
