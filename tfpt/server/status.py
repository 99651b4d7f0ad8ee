"""What is said about the states of the model's versions, as TensorFlow Serving's message."""

from tensorflow_serving.apis import get_model_status_pb2

from tfpt.server.refusal import Code, Refusal, invalid
from tfpt.server.requests import ModelSpec
from tfpt.server.versions import Versions

_FAILED = 2
"""gRPC's code UNKNOWN: a version that could not be loaded."""


def model_status(versions: Versions, spec: ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
    """Returns the states of all versions, or of the one that is asked for.

    Raises:
        Refusal: there is no such model, version or label.
    """
    if spec.name != versions.name:
        raise Refusal(Code.NOT_FOUND, f"Could not find any versions of model {spec.name[:100]}")
    if spec.label and spec.label not in versions.labels:
        raise invalid(f"Unrecognized servable version label: {spec.label[:100]}")
    asked = versions.labels[spec.label] if spec.label else spec.version
    if asked is not None and asked not in versions.states:
        raise Refusal(Code.NOT_FOUND, f"Could not find version {asked} of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state in sorted(versions.states.items(), reverse=True):
        if asked is None or version == asked:
            added = response.model_version_status.add(
                version=version, state=get_model_status_pb2.ModelVersionStatus.State.Value(state.name)
            )
            if state.error:
                added.status.error_code = _FAILED
            added.status.error_message = state.error
    return response
