"""What a bundle holds for TensorFlow Serving: its examples ask our server, which speaks the same protocols."""

import ast
import json
import runpy
import shutil
import subprocess
import sys

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfpt.serving import batching, deployment

NAME = 'my "pets" $HOME ü'


@pytest.fixture(scope="module")
def served(serve, texts, tmp_path_factory):
    """A server of a model with a difficult name, and the folder that its bundle holds."""
    folder = tmp_path_factory.mktemp("served") / NAME
    shutil.copytree(texts, folder / "1")
    deployment.write_deployment(
        folder / "1" / "assets.extra",
        {"text": b'it\'s a "film" \xc3\xa4'},
        name=NAME,
        parameters=batching.choose({1: 0.01}),
    )
    with serve(folder, batch_size=1) as client:
        yield client, folder / "1" / "assets.extra" / "serving"


def test_the_example_over_rest_is_answered(served):
    client, folder = served
    done = subprocess.run(["sh", str(folder / "ask_rest.sh"), client.host], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["predictions"]
    assert len(answer["scores"]) == 5
    body = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    assert body == {"instances": [{"text": 'it\'s a "film" ä'}]}
    assert client.post("predict", body)[1]["predictions"] == [answer]


def test_the_example_over_grpc_is_answered(served, capsys, monkeypatch):
    client, folder = served
    monkeypatch.setattr(sys, "argv", ["ask_grpc.py", client.serving.grpc])
    runpy.run_path(str(folder / "ask_grpc.py"), run_name="__main__")
    said = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    answer = client.post("predict", json.loads((folder / "request.json").read_text(encoding="utf-8")))[1]
    assert ast.literal_eval(said["score"]) == pytest.approx([answer["predictions"][0]["score"]])
    assert set(said) == {"classes", "label", "score", "scores"}


def test_the_files_for_tensorflow_serving_fit_together(served):
    _, folder = served
    config = text_format.Parse((folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (NAME, f"/models/{NAME}", "tensorflow")
    compose = (folder / "compose.yaml").read_text(encoding="utf-8")
    assert r'target: "/models/my \"pets\" $$HOME \u00fc", read_only: true' in compose  # Compose puts $VALUES in
    assert (folder / "../../..").resolve().name == NAME and "source: ../../.., " in compose
    for flag in ("--model_config_file=/config/models.config", "--batching_parameters_file=/config/batching.config"):
        assert flag in compose and (folder / flag.rpartition("/")[2]).is_file()


def test_a_picture_is_sent_as_base64(tmp_path):
    deployment.write_deployment(tmp_path, {"bytes": b"\x89PNG\0"}, name="m", parameters=batching.choose({1: 0.01}))
    body = json.loads((tmp_path / "serving" / "request.json").read_text())
    assert body == {"instances": [{"bytes": {"b64": "iVBORwA="}}]}
