"""Every kind of model over both interfaces: what is sent back is what the bundle answers in this process."""

import base64
import shutil

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from toys import hub_modules

from tfpt.preprocessors.hub_text import _load
from tfpt.registry import find
from tfpt.serving import bundle
from tfpt.serving.servable import Servable

TEXTS = ("Zoë went to Köln, she said.", "", "far, far away " * 9)
CASES = {
    "question_answering": {"question": ("who?", "where?", ""), "context": TEXTS},
    "token_classification": {"text": TEXTS},
    "image_regression": {"image": None},
    "text_classification": {"text": TEXTS},
}
FAST = ("image_regression",)
RENAMED = {"question": "asked", "image": "image_bytes"}
"""What clients of these models call their inputs."""


@pytest.mark.parametrize(
    "task", [*FAST, *(pytest.param(task, marks=pytest.mark.slow) for task in CASES if task not in FAST)]
)
def test_it_is_answered_as_in_this_process(serve, write_bundle, several_labels, encoded, tmp_path, task):
    names = {feature: RENAMED[feature] for feature in CASES[task] if feature in RENAMED}
    state = several_labels if task == "text_classification" else None
    folder = write_bundle(tmp_path / task / "3", task, state=state, input_names=names)
    raw = {
        feature: [value.encode() for value in values] if values else encoded[:3]
        for feature, values in CASES[task].items()
    }
    servable = Servable.load(folder)
    wanted = [servable.predict({feature: values[k : k + 1] for feature, values in raw.items()}) for k in range(3)]
    together = servable.predict(raw)
    raw = {names.get(feature, feature): values for feature, values in raw.items()}
    with serve(folder.parent, batch_size=4) as client, grpc.insecure_channel(client.serving.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for k in range(3):
            row = {name: _json(values[k]) for name, values in raw.items()}
            code, answer = client.post("predict", {"instances": [row]})
            assert code == 200, answer
            assert_equal(answer["predictions"][0], {name: value[0] for name, value in wanted[k].items()})
            request = predict_pb2.PredictRequest()
            request.model_spec.name = task
            for name, values in raw.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto([values[k]]))
            outputs = stub.Predict(request).outputs
            assert outputs.keys() == wanted[k].keys()
            for name, value in wanted[k].items():
                np.testing.assert_array_equal(tf.make_ndarray(outputs[name]), value)
        # The same as serialised tf.Examples, all in one request.
        code, answer = client.post(
            "predict", {"signature_name": "examples", "instances": list(map(_json, _examples(raw)))}
        )
        assert code == 200, answer
        for k, row in enumerate(answer["predictions"]):
            assert_equal(row, {name: value[k] for name, value in together.items()})
        inputs = client.call("GET", "/model")[1]["inputs"]
    assert [one["name"] for one in inputs] == list(raw)


def _json(value):
    return {"b64": base64.b64encode(value).decode()}


def _examples(raw):
    made = []
    for values in zip(*raw.values(), strict=True):
        example = tf.train.Example()
        for name, value in zip(raw, values, strict=True):
            example.features.feature[name].bytes_list.value.append(value)
        made.append(example.SerializeToString())
    return made


def assert_equal(answer, wanted):
    """The answer came as JSON; numbers may have been computed in another batch."""
    answer = answer if isinstance(answer, dict) else {next(iter(wanted)): answer}
    assert answer.keys() == wanted.keys()
    for name, value in wanted.items():
        value = np.asarray(value, object if isinstance(value, bytes) else None)
        if value.dtype.kind == "f":
            np.testing.assert_allclose(np.float32(answer[name]), value, atol=1e-5)
        else:
            plain = value if value.dtype != object else np.vectorize(bytes.decode, otypes="O")(value)
            assert answer[name] == plain.tolist(), name


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"no example", "example 0 is no serialised tf.Example"),
        (b"", "feature text of example 0 has 0 strings, not 1"),
        (_examples({"image": [b"x"]})[0], "feature text of example 0 has 0 strings, not 1"),
    ],
)
def test_a_tf_example_that_is_wrong_is_refused(words, sent, says):
    code, answer = words.post("predict", {"signature_name": "examples", "instances": [_json(sent)]})
    assert (code, answer) == (400, {"error": says})


def test_texts_that_a_module_prepares_are_answered_wherever_the_bundle_is(serve, make_servable, tmp_path):
    module = hub_modules.sentences(tmp_path / "sentences")
    built = make_servable("text_classification", backbone=find("backbone", "tfhub")(module))
    wanted = built.predict({"text": [b"a very good film"]})
    bundle.save(built, tmp_path / "m" / "1", model_name="m", warmup=[])
    assert not (tmp_path / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests").exists()
    shutil.rmtree(module)  # the bundle has a copy
    _load.cache_clear()
    with serve(tmp_path / "m", batch_size=2) as client:
        code, answer = client.post("predict", {"instances": ["a very good film", ""]})
    assert code == 200, answer
    np.testing.assert_allclose(np.float32(answer["predictions"][0]["scores"]), wanted["scores"][0], atol=1e-6)
