"""New versions are loaded while the old ones answer; nobody's request is lost."""

import gc
import shutil
import socket
import threading
import time
import weakref

import pytest

from tfpt.errors import UserError
from tfpt.server import service, versions
from tfpt.server.signature import definitions
from tfpt.serving.servable import Servable


def until(condition, seconds=30):
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def states(client):
    return {int(s["version"]): s["state"] for s in client.get()[1]["model_version_status"]}


@pytest.fixture
def folder(first, tmp_path):
    shutil.copytree(first, tmp_path / "my pets" / "1")
    return tmp_path / "my pets"


@pytest.fixture
def light(monkeypatch):
    """Versions are read, so that a damaged one is found, and not cut and warmed up: nobody asks these to predict."""

    class Light:
        features = {}

        def __init__(self, folder):
            Servable.load(folder)
            self.definitions = definitions(folder)

    monkeypatch.setattr(service, "_loader", lambda *arguments: Light)


def publish(second, folder, number):
    shutil.copytree(second, folder / f".partial-{number}")
    (folder / f".partial-{number}").rename(folder / str(number))


def test_a_version_that_comes_under_load_replaces_the_old_one_and_loses_no_request(
    serve, folder, second, whole, encoded
):
    import base64

    import numpy as np

    body = {"instances": [{"b64": base64.b64encode(encoded[0]).decode()}]}
    wanted = [model.predict({"image": encoded[:1]})["scores"][0] for model in (whole, Servable.load(second))]
    answers, stop = [], threading.Event()
    with serve(folder, batch_size=2) as client:

        def ask():
            while not stop.is_set():
                answers.append(client.post("predict", body))

        clients = [threading.Thread(target=ask) for _ in range(2)]
        for thread in clients:
            thread.start()
        publish(second, folder, 2)
        until(lambda: states(client) == {1: "END", 2: "AVAILABLE"})
        time.sleep(0.3)
        stop.set()
        for thread in clients:
            thread.join()
        said = "".join(client.lines)
    assert {code for code, _ in answers} == {200}
    scores = np.float32([answer["predictions"][0]["scores"] for _, answer in answers])
    old, new = (np.abs(scores - one).max(axis=1) < 1e-5 for one in wanted)
    assert (old ^ new).all() and old[0] and new[-1]
    assert "Version 2 of my pets answers." in said and "Version 1 of my pets has left." in said


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_and_is_tried_again_when_it_changed(
    serve, folder, second, light
):
    with serve(folder, batch_size=2) as client:
        shutil.copytree(second, folder / "2", ignore=shutil.ignore_patterns("variables.data*"))
        until(lambda: states(client).get(2) == "END")
        (state,) = client.get("/versions/2")[1]["model_version_status"]
        assert state["status"]["error_code"] == "UNKNOWN" and "damaged" in state["status"]["error_message"]
        assert client.call("GET", "/model")[1]["version"] == 1
        assert client.call("GET", "/readyz")[0] == 200
        shutil.copytree(second / "variables", folder / "2" / "variables", dirs_exist_ok=True)
        until(lambda: states(client) == {1: "END", 2: "AVAILABLE"})
        assert sum("version 2 cannot be served" in line for line in client.lines) >= 1
        shutil.rmtree(folder / "2")  # going back is deleting the newest
        until(lambda: states(client) == {1: "AVAILABLE", 2: "END"})
        shutil.rmtree(folder / "1")
        time.sleep(0.2)
        assert client.call("GET", "/model")[1]["version"] == 1  # the last one stays, whatever happens to its folder
        assert "serving_default" in client.get("/metadata")[1]["metadata"]["signature_def"]["signature_def"]


def test_a_version_that_is_written_again_is_loaded_again(serve, folder, second, light):
    with serve(folder, batch_size=1) as client:

        def model():
            with client.serving.versions.lease(name=client.serving.name) as (_, found):
                return found

        before = model()
        (folder / "1" / "assets.extra" / "note.txt").write_text("what is beside the model changes nothing")
        (folder / "1" / "saved_model.pb").write_text("no model")
        until(lambda: any("version 1 cannot be served" in line for line in client.lines))
        assert states(client) == {1: "AVAILABLE"} and model() is before
        shutil.rmtree(folder / "1")
        publish(second, folder, 1)
        until(lambda: model() is not before)
        assert states(client) == {1: "AVAILABLE"}
        said = "".join(client.lines)
    assert said.count("Version 1 of my pets answers, from its new files.") == 1 and "has left" not in said


def test_a_version_that_has_left_is_not_in_memory(serve, folder, second, light):
    with serve(folder, batch_size=1) as client:
        with client.serving.versions.lease(name=client.serving.name) as (_, model):
            first = weakref.ref(model)
        del model
        publish(second, folder, 2)
        until(lambda: states(client) == {1: "END", 2: "AVAILABLE"})
        gc.collect()
        assert first() is None


def test_of_all_versions_those_that_can_be_loaded_are_served(serve, folder, second, light):
    publish(second, folder, 2)
    (folder / "1" / "saved_model.pb").write_text("no model")
    with serve(folder, versions=("all",), batch_size=1) as client:
        assert states(client) == {1: "END", 2: "AVAILABLE"}
        assert any("version 1 cannot be served" in line for line in client.lines)
    with pytest.raises(UserError, match="is damaged"), serve(folder, versions=("all",), labels=("old=1",)):
        pass


def test_a_folder_that_goes_away_at_the_start_is_said(serve, folder, monkeypatch):
    def load(path):
        raise AssertionError("there is nothing to load")

    def gone(path):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(service, "_loader", lambda *arguments: load)
    monkeypatch.setattr(versions, "_fingerprint", gone)
    with pytest.raises(UserError, match="cannot be looked at"), serve(folder):
        pass


def test_a_port_that_somebody_took_while_the_model_was_loaded_is_said(serve, folder, monkeypatch):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]

        def load(path):
            other.listen()
            return object()

        monkeypatch.setattr(service, "_loader", lambda *arguments: load)
        with (
            pytest.raises(UserError, match=f"--serve.port={port} cannot be listened on .Address already in use"),
            serve(folder, port=port, grpc_port=None),
        ):
            pass


def test_a_part_that_ends_is_said_and_the_server_is_not_ready(serve, folder, light, monkeypatch):
    async def watch(self, seconds):
        raise RuntimeError("no eyes")

    monkeypatch.setattr(service.Versions, "watch", watch)
    with serve(folder, batch_size=1) as client:
        until(lambda: client.call("GET", "/readyz")[0] == 503)
        assert client.call("GET", "/healthz")[0] == 200
        assert any("RuntimeError: no eyes" in line for line in client.lines)


def test_versions_and_labels_that_are_asked_for_stay(serve, folder, second, light):
    publish(second, folder, 3)
    (folder / "4").mkdir()
    (folder / ("9" * 40)).mkdir()
    with serve(folder, labels=("stable=1", "canary=3"), name="pets", batch_size=2) as client:
        assert states(client) == {1: "AVAILABLE", 3: "AVAILABLE"}
        assert client.call("GET", "/v1/models/pets/labels/stable")[1]["model_version_status"][0]["version"] == "1"
        answered = [client.call("GET", f"/v1/models/pets/labels/{name}/metadata")[1] for name in ("stable", "canary")]
        assert [answer["model_spec"]["version"] for answer in answered] == ["1", "3"]
        publish(second, folder, 5)
        until(lambda: states(client).get(5) == "AVAILABLE")
        assert states(client) == {1: "AVAILABLE", 3: "AVAILABLE", 5: "AVAILABLE"}
        assert client.call("GET", "/model")[1]["version"] == 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"versions": ("7",)}, "holds no version 7"),
        ({"labels": ("stable=8",)}, "holds no version 8"),
    ],
)
def test_a_version_that_is_not_there_is_said_at_the_start(serve, folder, options, says):
    with pytest.raises(UserError, match=says), serve(folder, batch_size=1, **options):
        pass


def test_a_folder_without_a_model_is_said(serve, tmp_path, first):
    with pytest.raises(UserError, match="holds no version folder"), serve(tmp_path):
        pass
    with pytest.raises(UserError, match="holds no version folder"), serve(tmp_path / "absent"):
        pass
    shutil.copytree(first, tmp_path / "m" / "1")
    (tmp_path / "m" / "1" / "saved_model.pb").write_text("no model")
    with pytest.raises(UserError, match="is damaged"), serve(tmp_path / "m"):
        pass
    (tmp_path / "a:b").mkdir()
    with pytest.raises(UserError, match=r"write --serve\.name=NAME"), serve(tmp_path / "a:b"):
        pass
