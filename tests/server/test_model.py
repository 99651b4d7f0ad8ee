"""How a bundle is cut: answers of varying length, and other engines, and a tfpt that prepares otherwise."""

import numpy as np
import pytest
import tensorflow as tf
from toys.toy_words import ToyWords

from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.preprocessors.image import Image
from tfpt.server.model import Model
from tfpt.server.options import Options
from tfpt.serving import bundle
from tfpt.serving.servable import Servable
from tfpt.tasks.text_classification import TextClassification
from tfpt.training.assembly import assemble


class Words(TextClassification):
    """Answers with one value for each token, so that answers vary in length."""

    def decode(self, outputs, frame, state):
        return {"words": tf.sequence_mask(frame["text"]["tokens"]), "scores": tf.nn.softmax(outputs)}


def test_answers_of_varying_length_are_not_padded_by_their_neighbours(tmp_path):
    task, state, trunks = Words(), {"classes": ["a", "b"]}, {"trunk": ToyWords()}
    preprocessors = {"trunk": trunks["trunk"].preprocessor(Input(max_length=16))}
    made = assemble(task, state, trunks, preprocessors, precision="float32", seed=0)
    built = Servable.of(task=task, state=state, model=made.model, trunks=made.trunks, preprocessors=preprocessors)
    bundle.save(built, tmp_path / "1", model_name="m")
    model = Model(Servable.load(tmp_path / "1", task=task, trust=["toys"]), Options())

    texts = [[b"one"], [b"one two three", b"four"]]
    works = [model.prepare("serving_default", {"text": np.array(text, object)}) for text in texts]

    assert works[0].key != works[1].key
    answers = [model.predict([work])[0]["words"] for work in works]
    assert [answer.shape for answer in answers] == [(1, 3), (2, 5)]
    cut = [model.predict([part])[0]["words"].sum() for part in works[1].parts(1)]
    assert cut == [5, 3]


def test_a_bundle_is_prepared_as_it_was_exported_and_an_older_one_is_refused_where_this_tfpt_does_it_otherwise(
    whole, encoded, monkeypatch
):
    host, wanted = Image.host_pixels, whole.predict({"image": encoded[:1]})["scores"]
    monkeypatch.setattr(Image, "host_pixels", lambda self, image: host(self, image[:, ::-1] // 2))
    model = Model(whole, Options())
    (answer,) = model.predict([model.prepare("serving_default", {"image": np.array(encoded[:1], object)})])
    assert np.array_equal(answer["scores"], wanted)
    monkeypatch.setattr("tfpt.server.model.host_signature", lambda preprocessor: "not there")
    with pytest.raises(UserError, match="answers otherwise with this tfpt"):
        Model(whole, Options())
    monkeypatch.setattr(Image, "host_pixels", host)
    Model(whole, Options())


def test_another_engine_can_stand_in_the_models_place(cut, whole, encoded):
    class Counted:
        calls = 0

        def predict(self, batch):
            Counted.calls += 1
            assert batch["inputs"].dtype == np.uint8
            return before.predict(batch)

    before = cut.runner
    assert cut.put_on(Counted()).passed
    try:
        (answer,) = cut.predict([cut.prepare("serving_default", {"image": np.array(encoded[:2], object)})])
    finally:
        cut.runner = before
    assert Counted.calls
    assert np.array_equal(answer["scores"], whole.predict({"image": encoded[:2]})["scores"])
