"""Calls of both interfaces that the other files do not make: Regress, versions and labels in the address, shared context."""

import base64

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import inference_pb2, predict_pb2, prediction_service_pb2_grpc, regression_pb2

from tfpt.serving.servable import Servable


@pytest.fixture(scope="module")
def price_of(write_bundle, tmp_path_factory):
    """A version folder of a model that gives one number for a picture."""
    state = {"labels": "values", "mean": [3.5], "spread": [2.0]}
    return write_bundle(tmp_path_factory.mktemp("prices") / "4", "image_regression", state=state)


@pytest.fixture(scope="module")
def prices(serve, price_of):
    with serve(price_of.parent, name="prices", labels=("stable=4",), batch_size=4) as client:
        yield client


@pytest.fixture(scope="module")
def stub(prices):
    with grpc.insecure_channel(prices.serving.grpc) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def wanted(price_of, encoded):
    return Servable.load(price_of).predict({"image": encoded[:3]})["values"].reshape(-1)


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


def test_regress_over_rest(prices, wanted, encoded):
    body = {"examples": [{"image": b64(value)} for value in encoded[:3]]}
    for name in ({}, {"signature_name": "regression"}, {"signature_name": "examples"}):
        code, answer = prices.post("regress", body | name)
        assert code == 200, answer
        np.testing.assert_allclose(np.float32(answer["results"]), wanted, rtol=1e-5)


def test_a_context_is_shared_by_all_examples_over_rest(prices, wanted, encoded):
    code, answer = prices.post("regress", {"context": {"image": b64(encoded[0])}, "examples": [{}, {}]})
    assert code == 200
    np.testing.assert_allclose(np.float32(answer["results"]), wanted[[0, 0]], rtol=1e-5)


def test_regress_over_grpc_alone_and_with_others(stub, wanted, encoded):
    request, several = regression_pb2.RegressionRequest(), inference_pb2.MultiInferenceRequest()
    request.model_spec.name = "prices"
    task = several.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name = "prices"
    for one in (request, several):
        for value in encoded[:3]:
            one.input.example_list.examples.add().features.feature["image"].bytes_list.value.append(value)
    alone, (result,) = stub.Regress(request), stub.MultiInference(several).results
    assert alone.model_spec.version.value == result.model_spec.version.value == 4
    for regressions in (alone.result.regressions, result.regression_result.regressions):
        np.testing.assert_allclose(np.float32([one.value for one in regressions]), wanted, rtol=1e-5)


@pytest.mark.parametrize("where", ["/versions/4", "/labels/stable", ""])
def test_predict_by_version_and_by_label(prices, wanted, encoded, where):
    code, answer = prices.call("POST", f"{prices.model}{where}:predict", {"instances": [b64(encoded[0])]})
    assert code == 200
    np.testing.assert_allclose(np.float32(answer["predictions"][0]).reshape(-1), wanted[:1], rtol=1e-5)


def test_predict_by_version_and_by_label_over_grpc(stub, wanted, encoded):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "prices"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(encoded[:1]))
    for spec in ({"version_label": "stable"}, {"version": {"value": 4}}):
        request.model_spec.ClearField("version_choice")
        request.model_spec.MergeFrom(type(request.model_spec)(**spec))
        response = stub.Predict(request)
        assert response.model_spec.version.value == 4
        np.testing.assert_allclose(tf.make_ndarray(response.outputs["values"]).reshape(-1), wanted[:1], rtol=1e-5)
    request.model_spec.version.value = 5
    with pytest.raises(grpc.RpcError, match="not found") as refusal:
        stub.Predict(request)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
