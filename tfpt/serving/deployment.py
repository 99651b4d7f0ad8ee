"""What a bundle holds for whoever runs it in TensorFlow Serving: configuration, Docker Compose, example requests.

They lie in `assets.extra/serving` of a version folder, name nothing outside the model's folder, and so move with it.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format

from tfpt.preprocessors import distinct
from tfpt.serving import batching, synthetic
from tfpt.serving.servable import Servable

FOLDER = "serving"
_COMPOSE = """\
# This model in TensorFlow Serving: docker compose up
# It was written by tfpt and not run there; what was run is `tfpt serve`, which speaks the same protocols.
# Ports are open on this machine only. Another version of the server: TAG=VERSION docker compose up
name: {project}
services:
  serving:
    image: tensorflow/serving:${{TAG:-latest}}
    ports: ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    volumes:
      - {{type: bind, source: ../../.., target: {target}, read_only: true}}
      - {{type: bind, source: ., target: /config, read_only: true}}
    command:
      - --model_config_file=/config/models.config
      - --enable_batching=true
      - --batching_parameters_file=/config/batching.config
    restart: unless-stopped
"""
_REST = """\
#!/bin/sh
# Asks the model over REST: sh ask_rest.sh [HOST:PORT]
# In request.json, {inputs}.
exec curl --silent --show-error --data @"$(dirname "$0")/request.json" "http://${{1:-127.0.0.1:8501}}{path}"
"""
_GRPC = '''\
"""Asks the model over gRPC: python ask_grpc.py [HOST:PORT]; it needs tensorflow-serving-api."""

import base64
import json
import pathlib
import sys

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8500"
(instance,) = json.loads(pathlib.Path(__file__).with_name("request.json").read_text("utf-8"))["instances"]
request = predict_pb2.PredictRequest()
request.model_spec.name = {name}
for feature, value in instance.items():
    raw = base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()
    request.inputs[feature].CopyFrom(tf.make_tensor_proto([raw]))
with grpc.insecure_channel(server) as channel:
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
for output, value in sorted(answer.outputs.items()):
    print(output, tf.make_ndarray(value).tolist())
'''


def deploy(servable: Servable, extra: Path, *, name: str) -> None:
    """Writes the folder for a model, with a glance at how fast it is.

    Args:
        servable: the model.
        extra: the bundle's `assets.extra`.
        name: of the model.
    """
    preprocessors = distinct(servable.preprocessors)
    (raw,) = synthetic.examples(preprocessors, 1)

    def answer(size: int) -> None:
        servable.predict({feature: [value] * size for feature, value in raw.items()}, batch_size=size)

    example = servable.by_input(synthetic.samples(preprocessors))
    write_deployment(extra, example, name=name, parameters=batching.choose(batching.glance(answer)))


def write_deployment(extra: Path, example: Mapping[str, bytes], *, name: str, parameters: batching.Batching) -> None:
    """Writes the folder.

    Args:
        extra: the bundle's `assets.extra`.
        example: raw values by input name, that nobody owns.
        name: of the model.
        parameters: measured for it.
    """
    from tensorflow_serving.config import model_server_config_pb2

    target = f"/models/{name}"
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=target, model_platform="tensorflow")
    instance = {n: value.decode() if _is_text(value) else {"b64": _base64(value)} for n, value in example.items()}
    told = [
        f"{n} is a text" if _is_text(value) else f'{n} is the output of "base64 -w0 photo.jpg"'
        for n, value in example.items()
    ]
    project = re.sub(r"[^a-z0-9_-]", "-", name.lower()).lstrip("_-") or "model"
    files = {
        "models.config": text_format.MessageToString(config, as_utf8=True),
        "batching.config": parameters.text,
        "compose.yaml": _COMPOSE.format(project=json.dumps(project), target=json.dumps(target).replace("$", "$$")),
        "request.json": json.dumps({"instances": [instance]}, ensure_ascii=False) + "\n",
        "ask_rest.sh": _REST.format(inputs=" and ".join(told), path=_path(name)),
        "ask_grpc.py": _GRPC.format(name=json.dumps(name, ensure_ascii=False)),
    }
    (extra / FOLDER).mkdir()
    for file, text in files.items():
        (extra / FOLDER / file).write_text(text, encoding="utf-8", errors="surrogateescape")


def _path(name: str) -> str:
    """Returns the model's address within double quotes of a shell."""
    from urllib.parse import quote

    return f"/v1/models/{quote(name, errors='surrogateescape')}:predict"


def _is_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
