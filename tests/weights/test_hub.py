"""A model of the Hugging Face hub is fetched whole, from a server that answers as the hub does."""

import hashlib
import http.server
import json
import threading
import time
import urllib.parse

import pytest
from toys import transformers_folder

from tfpt import keywords
from tfpt.backbones.hf import Hf
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training.setting import set_up
from tfpt.weights import catalogue, fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf:org/model"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "vocab.txt": b"[PAD]\n[UNK]\n",
    "model.safetensors": b"numbers" * 1000,
    "pytorch_model.bin": b"the same numbers",
    "1_Pooling/config.json": b"{}",
    "README.md": b"not wanted",
}


class HubServer:
    """Keeps repositories, and what it was asked for."""

    def __init__(self):
        self.files, self.commit, self.asked, self.tokens, self.digests = dict(FILES), COMMIT, [], set(), {}

    def answer(self, path):
        self.asked.append(path)
        path, _, _ = urllib.parse.unquote(path).partition("?")
        if path.startswith("/api/models/org/model/revision/"):
            if path.rpartition("/")[2] not in ("main", "v1", self.commit):
                return None
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            for file in siblings:
                content = self.files[file["rfilename"]]
                file["lfs"] = {"sha256": self.digests.get(file["rfilename"], hashlib.sha256(content).hexdigest())}
            return json.dumps({"sha": self.commit, "siblings": siblings}).encode()
        begin = f"/org/model/resolve/{self.commit}/"
        return self.files.get(path.removeprefix(begin)) if path.startswith(begin) else None


@pytest.fixture
def hub(monkeypatch, tmp_path):
    keeper = HubServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            keeper.tokens.add(self.headers.get("Authorization"))
            content = keeper.answer(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    for name, value in (("TFPT_HOME", "home"), ("HF_HOME", "hf")):
        monkeypatch.setenv(name, str(tmp_path / value))
    for name in ("TFPT_WEIGHTS", "TFPT_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}/")
        yield keeper
        running.shutdown()


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


WANTED = {"config.json", "vocab.txt", "model.safetensors", "1_Pooling/config.json", "commit.txt"}


def test_one_kind_of_weights_and_what_belongs_to_it(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    folder = fetch.fetch(NAME)
    assert folder == tmp_path / "home" / "weights" / "hf" / "org--model"
    assert files_of(folder) == WANTED
    assert (folder / "commit.txt").read_text().strip() == COMMIT
    assert hub.tokens == {"Bearer secret"}
    asked = len(hub.asked)
    assert fetch.fetch(NAME) == folder
    assert fetch.fetched(NAME) == folder
    assert len(hub.asked) == asked
    assert fetch.fetch(f"{NAME}@v1").name == "org--model@v1"
    assert not list((tmp_path / "home").rglob(".partial*"))


@pytest.mark.parametrize("kind", ["pytorch_model.bin", "tf_model.h5"])
def test_other_kinds_of_weights(hub, kind):
    hub.files = {"config.json": b"{}", kind: b"numbers", "onnx/model.onnx": b""}
    assert files_of(fetch.fetch(NAME)) == {"config.json", kind, "commit.txt"}


def test_weights_in_parts(hub):
    parts = {f"model-0000{k}-of-00002.safetensors": b"numbers" for k in (1, 2)}
    index = {"weight_map": dict(zip("ab", parts, strict=True))}
    hub.files = {"config.json": b"{}", "model.safetensors.index.json": json.dumps(index).encode(), **parts}
    assert files_of(fetch.fetch(NAME)) == {*hub.files, "commit.txt"}
    index["weight_map"]["c"] = "../../elsewhere"
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(UserError, match=r"has no \.\./\.\./elsewhere"):
        fetch.fetch(f"{NAME}@v1")


def test_the_first_commit_is_kept(hub, tmp_path):
    folder = fetch.fetch(NAME)
    (folder / "model.safetensors").write_bytes(b"damaged")
    hub.asked.clear()
    assert (fetch.fetch(NAME) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert any(f"/revision/{COMMIT}" in path for path in hub.asked)  # not what main means by now
    # The same commit with other content is refused, and so is a hub that no longer has the commit.
    (folder / "model.safetensors").write_bytes(b"damaged")
    hub.files["model.safetensors"] = b"other numbers"
    with pytest.raises(UserError, match=r"not what came first; remove .*org--model\.json"):
        fetch.fetch(NAME)
    hub.commit = COMMIT[::-1]
    with pytest.raises(UserError, match="404"):
        fetch.fetch(NAME)
    (folder.with_name("org--model.json")).unlink()
    assert (fetch.fetch(NAME) / "model.safetensors").read_bytes() == b"other numbers"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda hub: hub.files.pop("config.json"), "no config.json"),
        (lambda hub: [hub.files.pop(name) for name in ("model.safetensors", "pytorch_model.bin")], "tf_model.h5"),
        (lambda hub: hub.digests.update({"vocab.txt": "0" * 64}), "SHA-256 differs"),
        (lambda hub: setattr(hub, "commit", "../elsewhere"), "404|not the hub's"),
    ],
)
def test_what_is_no_whole_model(hub, change, says, tmp_path):
    change(hub)
    with pytest.raises(UserError, match=says):
        fetch.fetch(NAME)
    assert fetch.fetched(NAME) is None
    assert not list((tmp_path / "home").rglob("config.json"))


def test_the_cache_of_hugging_faces_tools_is_used_offline(hub, tmp_path):
    repository = tmp_path / "hf" / "hub" / "models--org--model"
    for name, content in FILES.items():
        (repository / "blobs").mkdir(parents=True, exist_ok=True)
        (repository / "blobs" / name.replace("/", "-")).write_bytes(content)
        link = repository / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(repository / "blobs" / name.replace("/", "-"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    folder = fetch.fetch(NAME, offline=True)
    assert files_of(folder) == WANTED
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert hub.asked == []
    assert (folder / "commit.txt").read_text().strip() == COMMIT


def test_nothing_is_fetched_by_asking(hub, monkeypatch):
    backbone = Hf("org/model")
    assert backbone.weight_files() == backbone.spec_files() == (NAME,)
    with pytest.raises(UserError, match=r"not fetched yet; run `tfpt fetch hf:org/model`"):
        backbone.spec()
    assert hub.asked == []
    monkeypatch.setenv("TFPT_OFFLINE", "1")
    with pytest.raises(UserError, match="--offline forbids"):
        fetch.fetch(NAME)
    assert hub.asked == []


def test_no_network_fails_soon(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"cannot be reached.*TFPT_WEIGHTS") as raised:
        fetch.fetch(NAME)
    assert time.perf_counter() - started < 5
    assert "\n" not in str(raised.value)


def test_names_of_the_hub():
    assert catalogue.find("hf:bert-base-uncased").sources == (catalogue.Hub(repository="bert-base-uncased"),)
    assert catalogue.find("hf:a/b@refs/pr/1").sources == (catalogue.Hub(repository="a/b", revision="refs/pr/1"),)
    assert catalogue.find("hf:a/b@refs/pr/1").filename == "a--b@refs--pr--1"
    for name in ("hf:../b", "hf:/a/b", "hf:a/b/c", "hf:a/..", "hf:./a"):
        with pytest.raises(UserError):
            catalogue.find(name)


def test_a_run_fetches_before_it_asks(hub, tmp_path):
    folder = transformers_folder.write_folder(tmp_path / "bert", "bert")
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"a b {k},{k % 2}\n" for k in range(20)))
    experiment = keywords.experiment_from_kwargs(
        task="text_classification", data=f"csv:{tmp_path / 'data.csv'}", backbone="hf:org/model"
    )
    with pytest.raises(UserError, match="--offline forbids"):
        set_up(experiment, console=Console(quiet=True), offline=True)
    assert hub.asked == []
    setting = set_up(experiment, console=Console(quiet=True))
    assert setting.preprocessors["trunk"].size == transformers_folder.POSITIONS
    assert f"commit {COMMIT}" in setting.backbones["trunk"].spec().origin
