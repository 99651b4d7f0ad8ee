"""TensorFlow Serving's gRPC services: PredictionService and ModelService."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tfpt.server import examples, status
from tfpt.server.model import Model
from tfpt.server.refusal import Refusal, busy, invalid
from tfpt.server.requests import BODIES_IN_MEMORY, ModelSpec, Requests, Ticket
from tfpt.server.signature import Values
from tfpt.server.tensor_proto import to_array

_CALLS = 4 * BODIES_IN_MEMORY
"""Calls at a time: gRPC has a whole message in memory, and parsed, before it can be counted."""
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def server(requests: Requests) -> grpc.aio.Server:
    """Returns a server with both services, on the running event loop; it has no port yet."""
    made = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", requests.options.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake that should be seen
        ],
        maximum_concurrent_rpcs=min(requests.options.connections, _CALLS),
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(requests), made)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(requests), made)
    return made


class _Service:
    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    @contextlib.asynccontextmanager
    async def _answering(self, method: str, request: Any, context: Any) -> AsyncIterator[Ticket]:
        """Counts a call, and yields its ticket; a refusal becomes gRPC's status."""
        try:
            async with self._requests.counted("grpc", method):
                with self._requests.admitted() as ticket:
                    ticket.grow(request.ByteSize())
                    yield ticket
        except Refusal as refusal:
            await context.abort(getattr(grpc.StatusCode, refusal.code.grpc), refusal.sentence)


class _Prediction(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        """Answers with a signature's outputs."""
        async with self._answering("predict", request, context) as ticket:

            def inputs(model: Model) -> tuple[str, Values]:
                signature = model.signature(request.model_spec.signature_name)
                _check_filter(request.output_filter, signature.outputs)
                size = self._requests.options.max_body
                return signature.name, {
                    name: to_array(proto, name, most_bytes=size, reserve=ticket.reserve)
                    for name, proto in request.inputs.items()
                }

            version, name, answers = await self._requests.answers(_spec(request.model_spec), inputs)

            def respond() -> predict_pb2.PredictResponse:
                response = predict_pb2.PredictResponse()
                _fill_spec(response.model_spec, request.model_spec, version, name)
                for output in request.output_filter or answers:
                    response.outputs[output].CopyFrom(tf.make_tensor_proto(answers[output]))
                return response

            return await self._requests.written(answers, respond)

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with classes and scores."""
        async with self._answering("classify", request, context):
            response = classification_pb2.ClassificationResponse()
            await self._classify(request.model_spec, request.input, response.model_spec, response.result)
            return response

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with one number for each example."""
        async with self._answering("regress", request, context):
            response = regression_pb2.RegressionResponse()
            await self._regress(request.model_spec, request.input, response.model_spec, response.result)
            return response

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers Classify and Regress for the same examples."""
        async with self._answering("multi_inference", request, context):
            response = inference_pb2.MultiInferenceResponse()
            if not request.tasks:
                raise invalid("Inference request must have at least one task")
            for task in request.tasks:
                result = response.results.add()
                if task.method_name == CLASSIFY:
                    await self._classify(
                        task.model_spec, request.input, result.model_spec, result.classification_result
                    )
                elif task.method_name == REGRESS:
                    await self._regress(task.model_spec, request.input, result.model_spec, result.regression_result)
                else:
                    raise invalid(f"Unsupported signature method_name: {task.method_name[:100]}")
            return response

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns the signatures."""
        async with self._answering("metadata", request, context):
            wrong = [field for field in request.metadata_field if field != "signature_def"]
            if wrong or not request.metadata_field:
                raise invalid(
                    f"Metadata field {wrong[0][:100]} is not supported"
                    if wrong
                    else "GetModelMetadataRequest must specify at least one metadata_field"
                )
            spec = _spec(request.model_spec)
            versions = self._requests.versions
            with versions.lease(name=spec.name, version=spec.version, label=spec.label) as (version, model):
                response = get_model_metadata_pb2.GetModelMetadataResponse()
                _fill_spec(response.model_spec, request.model_spec, version, "")
                response.metadata["signature_def"].Pack(model.definitions)
                return response

    async def _classify(self, asked: Any, sent: Any, spec: Any, result: Any) -> None:
        answers = await self._of_examples(asked, sent, spec, examples.signature_for_classes)

        def fill() -> None:
            for row in examples.classes_of(answers):
                result.classifications.add().classes.extend(
                    classification_pb2.Class(label=label, score=score) for label, score in row
                )

        await self._requests.written(answers, fill)

    async def _regress(self, asked: Any, sent: Any, spec: Any, result: Any) -> None:
        answers = await self._of_examples(asked, sent, spec, examples.signature_for_values)
        for value in examples.values_of(answers):
            result.regressions.add(value=value)

    async def _of_examples(self, asked: Any, sent: Any, spec: Any, choose: Any) -> dict[str, np.ndarray]:
        options = self._requests.options

        def inputs(model: Model) -> tuple[str, Values]:
            signature = model.signature(choose(model.signatures, asked.signature_name))
            found = examples.of_input(sent, most=options.queue)
            return signature.name, examples.inputs_of(found, signature, most_bytes=options.max_body)

        version, name, answers = await self._requests.answers(_spec(asked), inputs)
        _fill_spec(spec, asked, version, name)
        return answers


class _Models(_Service, model_service_pb2_grpc.ModelServiceServicer):
    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns the states of the versions."""
        async with self._answering("status", request, context):
            return status.model_status(self._requests.versions, _spec(request.model_spec))

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Looks for new versions at once; what is served, and from where, is for the command line alone to say."""
        async with self._answering("reload", request, context):
            configs = request.config.model_config_list.config
            names = [config.name for config in configs]
            if names != [self._requests.versions.name]:
                raise invalid(f"this server has one model, {self._requests.versions.name}, and takes no other")
            folder = str(self._requests.versions.folder)
            if configs[0].base_path not in ("", folder):
                raise invalid("the model's folder is chosen by whoever starts the server")
            try:
                await self._requests.versions.scan()
            except OSError as error:
                raise busy(f"the model's folder cannot be looked at ({error.strerror})") from error
            return model_management_pb2.ReloadConfigResponse()


def _spec(spec: Any) -> ModelSpec:
    if not spec.name:
        raise invalid("Missing ModelSpec")
    version = spec.version.value if spec.HasField("version") else None
    return ModelSpec(name=spec.name, version=version, label=spec.version_label)


def _fill_spec(into: Any, asked: Any, version: int, signature: str) -> None:
    into.name = asked.name
    into.version.value = version
    into.signature_name = signature


def _check_filter(names: Any, outputs: Any) -> None:
    for name in names:
        if name not in outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name[:100]} Outputs expected to be in the set "
                f"{{{','.join(sorted(outputs))}}}."
            )
    if len(set(names)) < len(names):
        raise invalid("duplicate output tensor alias")
