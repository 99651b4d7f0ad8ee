"""Bundles with made-up weights, and servers in this process to ask."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import shutil
import threading
import types
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from toys.toy_words import ToyWords

from tfpt.config import Input, Runtime
from tfpt.console import Console
from tfpt.registry import find
from tfpt.server.model import Model
from tfpt.server.options import Options
from tfpt.serving import bundle
from tfpt.serving.servable import Servable
from tfpt.training.assembly import assemble

CLASSES = ["blue", "green", "red", "ünï", '<b>"&']


KINDS = {
    "image_classification": {"classes": CLASSES},
    "image_regression": {"labels": "values", "mean": [3.5, -20.0], "spread": [2.0, 0.25]},
    "text_classification": {"classes": CLASSES},
    "question_answering": {"unanswerable": True, "threshold": 0.0},
    "token_classification": {"classes": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]},
}
SEVERAL = {"labels": "multi", "classes": CLASSES, "thresholds": [0.2, 0.4, 0.5, 0.6, 0.8]}


def new_servable(task="image_classification", *, seed=1, size=8, backbone=None, state=None, input_names=None):
    """Returns a servable with a random head, on a tiny trunk where no other is given."""
    made_task, state = find("task", task)(), state or KINDS[task]
    trunks = {"trunk": backbone or (find("backbone", "tiny")("conv") if task.startswith("image") else ToyWords())}
    features = ("question", "context") if task == "question_answering" else made_task.modalities
    preprocessor = trunks["trunk"].preprocessor(Input(image_size=size, max_length=16)).for_features(features)
    preprocessors = {"trunk": made_task.adapt_preprocessor(preprocessor)}
    made = assemble(made_task, state, trunks, preprocessors, precision="float32", seed=0)
    head = made.model.get_layer("head")
    head.kernel.assign(np.random.default_rng(seed).normal(size=head.kernel.shape))
    parts = {"model": made.model, "trunks": made.trunks, "preprocessors": preprocessors}
    return dataclasses.replace(Servable.of(task=made_task, state=state, **parts), input_names=input_names or {})


def make_bundle(folder, *args, **kwargs):
    """Writes a version folder of `new_servable`'s model."""
    bundle.save(new_servable(*args, **kwargs), Path(folder), model_name="m")
    return Path(folder)


@pytest.fixture(scope="session")
def first(tmp_path_factory):
    """A version folder of a picture classifier."""
    return make_bundle(tmp_path_factory.mktemp("pets") / "1", seed=1)


@pytest.fixture(scope="session")
def second(first, tmp_path_factory):
    """A version folder that answers otherwise: the same graph, all kernels with the other sign."""
    folder = tmp_path_factory.mktemp("pets") / "2"
    shutil.copytree(first, folder)
    prefix = str(folder / "variables" / "variables")
    saved = tf.train.load_checkpoint(prefix)
    values = {name: saved.get_tensor(name) for name in saved.get_variable_to_shape_map()}
    flipped = [-v if getattr(v, "ndim", 0) >= 2 else v for v in values.values()]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=flipped)
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A version folder of a text classifier."""
    return make_bundle(tmp_path_factory.mktemp("words") / "7", "text_classification", seed=7)


@pytest.fixture(scope="session")
def write_bundle():
    """Writes a version folder: `write_bundle(folder, seed=1)`."""
    return make_bundle


@pytest.fixture(scope="session")
def make_servable():
    """Makes a model with a random head: `make_servable("image_classification", seed=1)`."""
    return new_servable


@pytest.fixture(scope="session")
def several_labels():
    """The state of a task whose examples may have several labels."""
    return SEVERAL


class Client:
    """Asks a server that runs in a thread of this process."""

    def __init__(self, serving, lines):
        self.serving = serving
        self.url = serving.url
        self.lines = lines
        self.host = urllib.parse.urlsplit(serving.url).netloc
        self.model = f"/v1/models/{urllib.parse.quote(serving.name)}"

    def call(self, verb, path, body=None, headers=None):
        """Returns status and decoded answer."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=30)) as connection:
            body = json.dumps(body).encode() if isinstance(body, dict | list) else body
            connection.request(verb, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            self.headers = response.headers
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.status, json.loads(content) if is_json else content.decode()

    def post(self, method, body):
        return self.call("POST", f"{self.model}:{method}", body)

    def get(self, path=""):
        return self.call("GET", self.model + path)


@pytest.fixture(scope="session")
def serve():
    """Serves a folder while a block runs: `with serve(folder, batch_size=4) as client`."""
    return running


@contextlib.contextmanager
def running(folder, *, trust=(), engine="tensorflow", **options):
    """Serves a folder on free ports, in a thread with an event loop of its own."""
    from tfpt.server import service

    settings = Options(**{"port": 0, "grpc_port": 0, "poll_seconds": 0.05, **options})
    started, lines, made = threading.Event(), [], types.SimpleNamespace(error=None)
    console = Console(stream=types.SimpleNamespace(write=lines.append, flush=lambda: None, isatty=lambda: False))

    async def serve():
        made.loop, made.stop = asyncio.get_running_loop(), asyncio.Event()
        async with service.serving(
            Path(folder), settings, runtime=Runtime(engine=engine), trust=trust, console=console
        ) as made.serving:
            started.set()
            await made.stop.wait()

    def run():
        try:
            asyncio.run(serve())
        except BaseException as error:
            made.error = error
        started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        if made.error:
            raise made.error
        client = Client(made.serving, lines)
        client.stop = lambda: made.loop.call_soon_threadsafe(made.stop.set)
        yield client
    finally:
        if not made.error:
            made.loop.call_soon_threadsafe(made.stop.set)
        thread.join()
    if made.error:
        raise made.error


@pytest.fixture(scope="session")
def pets(first):
    """A server of the picture classifier."""
    with running(first, name="pets") as client:
        yield client


@pytest.fixture(scope="session")
def words(texts):
    """A server of the text classifier."""
    with running(texts) as client:
        yield client


@pytest.fixture(scope="session")
def whole(first):
    """The picture classifier, called in this process."""
    return Servable.load(first)


@pytest.fixture(scope="session")
def cut(whole):
    """The picture classifier as the server cuts it; whoever changes it changes it back."""
    return Model(whole, Options())


@pytest.fixture(scope="session")
def encoded(pictures):
    """Encoded pictures of 24 x 24 pixels."""
    return [file.read_bytes() for file in sorted(pictures.rglob("*.png"))]
