"""How a bundle is cut: answers of varying length, and other engines, and a tfpt that prepares otherwise."""

import numpy as np
import pytest
import tensorflow as tf
from toys.toy_words import ToyWords

from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.preprocessors.image import Image
from tfpt.server.examples import inputs_of
from tfpt.server.model import Model
from tfpt.server.options import Options
from tfpt.server.refusal import Code, Refusal
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
    head = made.model.get_layer("head")
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
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
    prepared = [model.prepare("host_text", {"text": np.array(text, object)}) for text in texts]
    assert prepared[0].key != prepared[1].key and all(work.alone for work in works + prepared)
    (host,) = model.predict([prepared[0]])
    assert host["text"].shape == (1, 3, 2)

    class Otherwise(Words):
        def decode(self, outputs, frame, state):
            made = super().decode(outputs, frame, state)
            return {**made, "words": tf.logical_not(made["words"])}

    with pytest.raises(UserError, match="answers otherwise with this tfpt"):  # words and whole numbers count, too
        Model(Servable.load(tmp_path / "1", task=Otherwise(), trust=["toys"]), Options())


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


def test_many_pictures_are_prepared_in_portions(cut, encoded):
    steps = list(cut.preparing("serving_default", {"image": np.array(encoded[:20], object)}))
    assert steps[:-1] == [None, None]
    whole = [cut.prepare("serving_default", {"image": np.array(encoded[k : k + 1], object)}) for k in range(20)]
    assert np.array_equal(steps[-1].values["image"], np.concatenate([work.values["image"] for work in whole]))
    assert {work.key for work in whole} == {steps[-1].key} == {("serving_default", 1)}


def test_a_long_text_counts_as_the_windows_that_it_is(write_bundle, tmp_path):
    model = Model(Servable.load(write_bundle(tmp_path / "1", "question_answering")), Options())

    def work(words):
        return model.prepare(
            "serving_default", {"question": np.array([b"who?"], object), "context": np.array([b"a " * words], object)}
        )

    short, long = work(3), work(100)  # windows are of 16 tokens
    assert (short.cost, long.cost) == (1, 8) and short.key != long.key
    assert (short.share(32), long.share(32), long.share(4)) == (32, 4, 1)


def test_a_serialised_example_is_held_to_the_limits_in_every_signature_that_takes_them(whole, encoded):
    model = Model(whole, Options(max_megapixels=0.0001))

    def sent(picture):
        example = tf.train.Example()
        example.features.feature["image"].bytes_list.value.append(picture)
        return np.array([example.SerializeToString()], object)

    grey = tf.io.encode_png(tf.fill([9, 9, 1], tf.constant(128, tf.uint8))).numpy()
    for name, given in (("examples", "examples"), ("classification", "inputs")):
        with pytest.raises(Refusal, match="million pixels"):
            model.prepare(name, {given: sent(encoded[0])})
        (answer,) = model.predict([model.prepare(name, {given: sent(grey)})])
        assert np.array_equal(answer["scores"], whole.predict({"image": [grey]})["scores"])


def test_an_input_may_be_called_as_serialised_examples_are(write_bundle, encoded, tmp_path):
    folder = write_bundle(tmp_path / "1", input_names={"image": "inputs"})
    model = Model(Servable.load(folder), Options())
    pictures = inputs_of([{"inputs": [encoded[0]]}], model.signature("serving_default"), most_bytes=10**6)
    assert pictures["inputs"].tolist() == [encoded[0]]
    assert model.prepare("serving_default", pictures).length == 1


def test_what_an_engine_cannot_compute_is_refused_for_now(cut, encoded):
    class Failing:
        def predict(self, batch):
            raise RuntimeError("no more cores\nand more")

    work, before = cut.prepare("serving_default", {"image": np.array(encoded[:1], object)}), cut.runner
    cut.runner = Failing()
    try:
        with pytest.raises(Refusal, match=r"^the model failed: no more cores$") as refusal:
            cut.predict([work])
    finally:
        cut.runner = before
    assert refusal.value.code is Code.UNAVAILABLE


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
