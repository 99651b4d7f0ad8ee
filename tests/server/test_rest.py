"""The documented calls of TensorFlow Serving's REST interface, against the bundle called in this process."""

import base64
import json

import numpy as np
import pytest


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


def assert_rows_equal(rows, wanted):
    """Exactly: the same computation at the same batch size."""
    assert len(rows) == len(wanted["label"])
    for k, row in enumerate(rows):
        assert row.keys() == wanted.keys()
        assert row["label"] == wanted["label"][k].decode()
        assert row["classes"] == [name.decode() for name in wanted["classes"][k]]
        assert np.array_equal(np.float32(row["scores"]), wanted["scores"][k])
        assert np.float32(row["score"]) == wanted["score"][k]


@pytest.mark.parametrize("count", [1, 3, 32])
def test_predict_by_row_equals_the_bundle(pets, whole, encoded, count):
    wanted = whole.predict({"image": encoded[:count]})

    code, plain = pets.post("predict", {"instances": [b64(value) for value in encoded[:count]]})
    _, named = pets.post("predict", {"instances": [{"image": b64(value)} for value in encoded[:count]]})

    assert code == 200
    assert pets.headers["content-type"] == "application/json"
    assert_rows_equal(plain["predictions"], wanted)
    assert named == plain


def test_predict_by_column_equals_the_bundle(pets, whole, encoded):
    wanted = whole.predict({"image": encoded[:3]})
    for inputs in ({"image": [b64(value) for value in encoded[:3]]}, [b64(value) for value in encoded[:3]]):
        code, answer = pets.post("predict", {"inputs": inputs, "signature_name": "serving_default"})
        assert code == 200
        outputs = answer["outputs"]
        assert_rows_equal([dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)], wanted)


def test_more_examples_than_a_batch_are_answered_in_order(pets, whole, encoded):
    many = (encoded * 3)[:70]
    _, answer = pets.post("predict", {"instances": [b64(value) for value in many]})
    wanted = whole.predict({"image": many}, batch_size=32)
    assert_rows_equal(answer["predictions"], wanted)


def test_the_other_signatures_answer_as_in_the_bundle(pets, whole, encoded):
    signatures = vars(whole.outputs)["loaded"].signatures
    import tensorflow as tf

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 7, 3)).astype(np.float32)
    small = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    for name, sent, given in (
        ("embedding", [b64(value) for value in encoded[:2]], {"image": tf.constant(encoded[:2])}),
        ("pixels", pixels.tolist(), {"image": tf.constant(pixels)}),
        ("outputs", small.tolist(), {"inputs": tf.constant(small)}),
    ):
        code, answer = pets.post("predict", {"signature_name": name, "inputs": sent})
        assert code == 200, answer
        wanted = {key: value.numpy() for key, value in signatures[name](**given).items()}
        outputs = answer["outputs"] if len(wanted) > 1 else {next(iter(wanted)): answer["outputs"]}
        for key, value in wanted.items():
            if value.dtype != object:
                assert np.array_equal(np.float32(outputs[key]), value), (name, key)


def test_texts_are_answered_as_in_the_bundle(words, texts):
    from tfpt.serving.servable import Servable

    sentences = ["a film", "", "nöt a fılm 🎬 at all " * 20, "\u0000"]
    wanted = Servable.load(texts).predict({"text": [s.encode() for s in sentences]})

    code, answer = words.post("predict", {"instances": sentences})

    assert code == 200
    assert_rows_equal(answer["predictions"], wanted)


def test_classify(pets, whole, encoded):
    wanted = whole.predict({"image": encoded[:2]})
    code, answer = pets.post("classify", {"examples": [{"image": b64(value)} for value in encoded[:2]]})
    assert code == 200
    assert len(answer["results"]) == 2
    for pairs, names, scores in zip(answer["results"], wanted["classes"], wanted["scores"], strict=True):
        assert [name for name, _ in pairs] == [name.decode() for name in names]
        assert np.array_equal(np.float32([score for _, score in pairs]), scores)


def test_regress_of_a_classifier_says_what_it_gives(pets, encoded):
    code, answer = pets.post("regress", {"examples": [{"image": b64(encoded[0])}]})
    assert code == 400
    assert answer == {
        "error": "Signature serving_default gives classes, label, score, scores; Regress needs outputs or value or values."
    }


def test_versions_in_the_path(pets, encoded):
    body = {"instances": [b64(encoded[0])]}
    assert pets.call("POST", "/v1/models/pets/versions/1:predict", body)[0] == 200
    code, answer = pets.call("POST", "/v1/models/pets/versions/9:predict", body)
    assert (code, answer) == (404, {"error": "Servable not found for request: Specific(pets, 9)"})
    assert pets.call("POST", "/v1/models/pets/labels/stable:predict", body) == (
        400, {"error": "Unrecognized servable version label: stable"},
    )  # fmt: skip


def test_status_and_metadata(pets):
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert pets.get() == (200, {"model_version_status": [state]})
    assert pets.get("/versions/1") == (200, {"model_version_status": [state]})
    assert pets.get("/versions/2")[0] == 404
    code, answer = pets.get("/metadata")
    assert code == 200
    assert answer["model_spec"] == {"name": "pets", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image"]["dtype"] == "DT_STRING"
    shape = signatures["serving_default"]["inputs"]["image"]["tensor_shape"]
    assert shape == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    assert not [name for name in signatures if name.startswith("__")]


def test_health_metrics_and_what_the_page_needs(pets, words):
    assert pets.call("GET", "/healthz") == (200, "ok\n")
    assert pets.call("GET", "/readyz") == (200, "ok\n")
    assert pets.call("GET", "/model") == (
        200, {"name": "pets", "version": 1, "inputs": [{"name": "image", "kind": "image"}]},
    )  # fmt: skip
    assert words.call("GET", "/model")[1]["inputs"] == [{"name": "text", "kind": "text"}]
    pets.post("predict", "{")
    text = pets.call("GET", "/metrics")[1]
    assert 'tfpt_requests_total{interface="rest",method="predict",status="INVALID_ARGUMENT"}' in text
    assert 'tfpt_version{model="pets",version="1"} 1.0' in text
    assert "tfpt_batch_examples_bucket" in text
    code, page = pets.call("GET", "/")
    assert code == 200 and "<main>" in page
    assert pets.headers["content-security-policy"].startswith("default-src 'self'")


WRONG = [
    ("predict", "", 400, "JSON Parse error: "),
    ("predict", "{", 400, "JSON Parse error: "),
    ("predict", "[1]", 400, "JSON Value: [1] Is not object"),
    ("predict", b"\xff\xfe", 400, "JSON Parse error: "),
    ("predict", {}, 400, "Missing 'inputs' or 'instances' key"),
    ("predict", {"instances": ["x"], "inputs": ["x"]}, 400, "only one of 'inputs' or 'instances'"),
    ("predict", {"instances": "x"}, 400, "Expecting 'instances' to be an list/array"),
    ("predict", {"instances": []}, 400, "No values in 'instances' array"),
    ("predict", {"instances": [7]}, 400, "JSON Value: 7 is not of expected type: string"),
    ("predict", {"instances": [None]}, 400, "JSON Value: null is not of expected type: string"),
    ("predict", {"instances": [["x"]]}, 400, "input image has the shape [1,1], not [?]"),
    ("predict", {"instances": ["x", ["y"]]}, 400, "is not of expected type: string"),
    ("predict", {"instances": [{"b64": "?"}]}, 400, "not formatted correctly for base64 data"),
    ("predict", {"instances": [{"b64": 1}]}, 400, "is not of expected type: string"),
    ("predict", {"instances": [{"picture": "x"}]}, 400, "keys must be equal to: image"),
    ("predict", {"instances": [{"image": "x"}, "x"]}, 400, "Expecting object but got list at item 1"),
    ("predict", {"inputs": {"picture": ["x"]}}, 400, "Sent extra: {picture}. Missing but required: {image}."),
    ("predict", {"inputs": "x"}, 400, "has the shape [], not [?]"),
    ("predict", {"instances": ["x"], "signature_name": "?"}, 400, 'Serving signature name: "?" not found'),
    ("predict", {"instances": ["x"], "signature_name": 1}, 400, "'signature_name' key must be a string value"),
    ("predict", {"instances": ["x"]}, 400, "image of the example cannot be decoded: it is not a picture"),
    ("predict", {"instances": ["\ud800"]}, 400, "holds half a character"),
    ("predict", {"instances": ["x"], "signature_name": "\ud800"}, 400, 'Serving signature name: "\ud800" not found'),
    ("predict", {"inputs": {"\ud800": ["x"]}}, 400, "Sent extra: {\ud800}"),
    ("classify", {"signature_name": "examples", "examples": [{"\ud800": "x"}]}, 400, "holds half a character"),
    ("predict", '{"instances": [' + "9" * 5000 + "]}", 400, "JSON Parse error: "),
    ("predict", '{"instances": ' + "[" * 100_000, 400, "JSON Parse error: it is nested too deeply"),
    ("predict", {"signature_name": "outputs", "instances": [[[[1, 2, 3]]]]}, 400, "not [?,8,8,3]"),
    ("predict", {"signature_name": "outputs", "instances": [256]}, 400, "does not fit into uint8"),
    ("predict", {"signature_name": "outputs", "instances": [1.5]}, 400, "is not of expected type: uint8"),
    ("predict", {"signature_name": "outputs", "instances": [True]}, 400, "is not of expected type: uint8"),
    ("predict", {"signature_name": "outputs", "instances": [[1], [1, 2]]}, 400, "rows of different lengths"),
    ("predict", {"signature_name": "pixels", "instances": [10**30]}, 400, "is not of expected type: float32"),
    ("predict", '{"signature_name": "pixels", "instances": [1e300]}', 400, "does not fit into float32"),
    ("predict", {"signature_name": "pixels", "instances": [[]]}, 400, "not [?,?,?,3]"),
    ("predict", {"signature_name": "pixels", "instances": [[[[[[[[[[1]]]]]]]]]]}, 400, "nested more than 8 deep"),
    ("classify", {"examples": []}, 400, "Expecting 'examples' value to be an non-empty list"),
    ("classify", {"examples": [1]}, 400, "Example must be JSON object"),
    ("classify", {"examples": [{"image": [None]}]}, 400, "Unexpected element type in feature: image"),
    ("classify", {"examples": [{"text": "x"}]}, 400, "example 0 has no feature image; it has text"),
    ("classify", {"examples": [{"image": 1}]}, 400, "feature image is not of expected type: string"),
    ("classify", {"examples": [{"image": []}]}, 400, "has the shape [1,0], not [?]"),
    ("classify", {"context": {"image": "x"}, "examples": [{"image": "x"}]}, 400, "in the context and in an example"),
    ("classify", {"signature_name": "embedding", "examples": [{"image": "x"}]}, 400, "Classify needs classes or scores"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "body", "code", "says"), WRONG)
def test_a_wrong_request_gets_one_sentence(pets, method, body, code, says):
    got, answer = pets.post(method, body)
    assert got == code
    assert list(answer) == ["error"]
    assert says in answer["error"]
    assert len(answer["error"]) < 400


def test_wrong_addresses(pets):
    for verb, path, code in (
        ("GET", "/v1/models/pets:predict", 400),
        ("PUT", "/v1/models/pets:predict", 400),
        ("POST", "/v1/models/pets", 400),
        ("POST", "/v1/models/pets:explain", 400),
        ("GET", "/v1/models/pets/versions/x", 400),
        ("GET", f"/v1/models/pets/versions/{2**70}", 400),
        ("GET", "/v1/models/../../etc/passwd", 400),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 400),
        ("GET", "/v1/models/%2e%2e", 404),
        ("GET", "/v1/models/cats", 404),
        ("GET", "/v1/models", 404),
        ("GET", "/page.py", 404),
        ("GET", "/../serve.py", 404),
        ("POST", "/", 405),
    ):
        got, answer = pets.call(verb, path, "{}" if verb != "GET" else None)
        assert (got, list(answer)) == (code, ["error"]), path


def test_one_bad_picture_does_not_fail_its_neighbours(pets, encoded):
    body = {"instances": [b64(encoded[0]), b64(encoded[1][:-40]), b64(encoded[2])]}
    code, answer = pets.post("predict", body)
    assert code == 400
    assert answer["error"].startswith("image of example 1 cannot be decoded: ")
    assert "/" not in answer["error"].partition(": ")[2].replace("data/", "")


def test_nan_and_infinity_are_words_as_tensorflow_serving_writes_them(pets):
    body = '{"signature_name": "pixels", "instances": [[[[NaN, Infinity, -Infinity]]]]}'
    code, answer = pets.post("predict", body)
    assert code == 200
    assert sum(answer["predictions"][0]["scores"]) == pytest.approx(1)
    from tfpt.server.json_values import predictions

    text = predictions({"x": np.float32([np.nan, np.inf]), "y_bytes": np.array([b"a", b"b"], object)}, by_row=True)
    assert text == b'{"predictions":[{"x":NaN,"y_bytes":{"b64":"YQ=="}},{"x":Infinity,"y_bytes":{"b64":"Yg=="}}]}'
    assert json.loads(text)
