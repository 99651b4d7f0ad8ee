"""TensorFlow Serving's own stub classes against the server, and against the bundle called in this process."""

import contextlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


@pytest.fixture(scope="module")
def channel(pets):
    with grpc.insecure_channel(pets.serving.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


@contextlib.contextmanager
def refused(code, says):
    with pytest.raises(grpc.RpcError) as refusal:
        yield
    assert refusal.value.code() is code, refusal.value.details()
    assert says in refusal.value.details()


def predict_request(encoded, *, name="pets", signature="", outputs=(), feature="image"):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.inputs[feature].CopyFrom(tf.make_tensor_proto(encoded))
    return request


def examples_request(kind, encoded, *, name="pets", feature="image"):
    request = kind()
    request.model_spec.name = name
    add_examples(request.input, encoded, feature=feature)
    return request


def add_examples(to, encoded, *, feature="image"):
    for value in encoded:
        to.example_list.examples.add().features.feature[feature].bytes_list.value.append(value)


def test_predict_equals_the_bundle(stub, whole, encoded):
    wanted = whole.predict({"image": encoded[:5]})
    response = stub.Predict(predict_request(encoded[:5]))
    assert response.model_spec.name == "pets"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    assert set(response.outputs) == set(wanted)
    for name, value in wanted.items():
        assert np.array_equal(tf.make_ndarray(response.outputs[name]), value)


def test_predict_with_an_output_filter_and_another_signature(stub, whole, encoded):
    response = stub.Predict(predict_request(encoded[:1], outputs=["label"]))
    assert set(response.outputs) == {"label"}
    pixels = np.full([2, 4, 4, 3], 7, np.float32)
    answer = tf.make_ndarray(stub.Predict(predict_request(pixels, signature="pixels")).outputs["scores"])
    signature = vars(whole.outputs)["loaded"].signatures["pixels"]
    assert np.array_equal(answer, signature(image=tf.constant(pixels))["scores"])


def test_classify_and_multi_inference(stub, whole, encoded):
    wanted = whole.predict({"image": encoded[:2]})
    response = stub.Classify(examples_request(classification_pb2.ClassificationRequest, encoded[:2]))
    several = inference_pb2.MultiInferenceRequest()
    task = several.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.name = "pets"
    add_examples(several.input, encoded[:2])
    for result in (response.result, stub.MultiInference(several).results[0].classification_result):
        scores = [[c.score for c in row.classes] for row in result.classifications]
        assert np.array_equal(np.float32(scores), wanted["scores"])
        assert [c.label for c in result.classifications[0].classes] == [c.decode() for c in wanted["classes"][0]]
    assert response.model_spec.version.value == 1


def test_a_context_is_shared_by_all_examples(stub, encoded):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "pets"
    context = request.input.example_list_with_context
    context.context.features.feature["image"].bytes_list.value.append(encoded[0])
    context.examples.add()
    context.examples.add()
    assert len(stub.Classify(request).result.classifications) == 2


def test_metadata_and_status(stub, models):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "pets"
    response = stub.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "embedding", "outputs", "pixels"} <= set(signatures.signature_def)
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "pets"
    (state,) = models.GetModelStatus(asked).model_version_status
    assert (state.version, state.state, state.status.error_code) == (1, state.AVAILABLE, 0)


def test_wrong_calls(stub, models, encoded):
    wrong = grpc.StatusCode.INVALID_ARGUMENT
    with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(cats)"):
        stub.Predict(predict_request(encoded[:1], name="cats"))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, '"nope" not found'):
        stub.Predict(predict_request(encoded[:1], signature="nope"))
    with refused(wrong, "Sent extra: {x}. Missing but required: {image}."):
        stub.Predict(predict_request(encoded[:1], feature="x"))
    with refused(wrong, "output tensor alias not found in signature: x"):
        stub.Predict(predict_request(encoded[:1], outputs=["x"]))
    with refused(wrong, "input image is float32, not string"):
        stub.Predict(predict_request(np.float32([1])))
    with refused(wrong, "cannot be decoded"):
        stub.Predict(predict_request([b"no picture"]))
    with refused(wrong, "Regress needs"):
        stub.Regress(examples_request(regression_pb2.RegressionRequest, encoded[:1]))
    with refused(wrong, "Input is empty."):
        stub.Classify(examples_request(classification_pb2.ClassificationRequest, []))
    with refused(wrong, "no feature image; it has text"):
        stub.Classify(examples_request(classification_pb2.ClassificationRequest, encoded[:1], feature="text"))
    with refused(wrong, "Missing ModelSpec"):
        stub.Predict(predict_request(encoded[:1], name=""))
    with refused(wrong, "at least one metadata_field"):
        stub.GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest())
    with refused(wrong, "at least one task"):
        stub.MultiInference(inference_pb2.MultiInferenceRequest())


def test_a_tensor_whose_shape_asks_for_all_the_memory_is_refused(stub):
    request = predict_request(np.float32([1]), signature="pixels")
    proto = request.inputs["image"]
    for shape, content in (((10**6, 10**6, 10, 3), None), ((2, 2, 2, 3), b"12"), ((-1, 1, 1, 3), None)):
        del proto.tensor_shape.dim[:]
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        if content is not None:
            del proto.float_val[:]
            proto.tensor_content = content
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "input image "):
            stub.Predict(request)
    texts = predict_request([b"x"])
    texts.inputs["image"].tensor_shape.dim[0].size = 10**9
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "has 1 strings, and a shape for 1000000000"):
        stub.Predict(texts)
    texts.inputs["image"].dtype = 21  # a variant
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "a type that no signature takes"):
        stub.Predict(texts)


def test_a_single_value_does_not_stand_for_a_large_array(stub):
    request = predict_request(np.float32([1]), signature="pixels")
    del request.inputs["image"].tensor_shape.dim[:]
    for size in (1, 400, 400, 3):
        request.inputs["image"].tensor_shape.dim.add(size=size)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "has a shape for 480000 values, and fewer of them"):
        stub.Predict(request)


@pytest.mark.parametrize(
    ("dtype", "field", "value"),
    [(tf.uint8, "int_val", 300), (tf.int8, "int_val", -300), (tf.float16, "half_val", 70_000)],
)
def test_a_number_that_does_not_fit_into_its_type_is_refused(stub, dtype, field, value):
    request = predict_request(np.zeros([1], dtype.as_numpy_dtype), signature="outputs", feature="inputs")
    request.inputs["inputs"].ClearField("tensor_content")
    getattr(request.inputs["inputs"], field)[:] = [value]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "input inputs has a shape for 1 values, and others"):
        stub.Predict(request)


def test_no_strings_in_a_shape_that_no_array_can_have_are_refused(stub):
    request = predict_request(np.zeros([0], object))
    for _ in range(2):
        request.inputs["image"].tensor_shape.dim.add(size=2**62)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "input image has a shape for 0 values, and others"):
        stub.Predict(request)


def test_a_folder_that_goes_away_while_it_is_looked_at_is_said(pets, models, monkeypatch):
    async def scan():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(pets.serving.versions, "scan", scan)
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="pets")
    with refused(grpc.StatusCode.UNAVAILABLE, "folder cannot be looked at (No such file or directory)"):
        models.HandleReloadConfigRequest(request)


def test_a_client_cannot_choose_the_models_folder(models):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="pets", base_path="/tmp")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "chosen by whoever starts the server"):
        models.HandleReloadConfigRequest(request)
    request.config.model_config_list.config[0].base_path = ""
    assert models.HandleReloadConfigRequest(request).status.error_code == 0
    request.config.model_config_list.config[0].name = "cats"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "takes no other"):
        models.HandleReloadConfigRequest(request)
