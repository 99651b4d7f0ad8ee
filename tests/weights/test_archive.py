"""What a stranger's archive may hold, and that a module's address is fetched whole, once, and never changes."""

import functools
import http.server
import io
import tarfile
import threading
from types import MappingProxyType

import pytest

from tfpt.errors import UserError
from tfpt.weights import catalogue, fetch
from tfpt.weights.archive import unpack
from tfpt.weights.catalogue import Archive, Entry
from tfpt.weights.package_index import SourceError

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index"}


def write(path, files, *, mode="w:gz", links=()):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def contents(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("prefix", ["", "./", "module/", "./module/"])
def test_files_come_out_of_the_one_folder_that_they_are_in(tmp_path, prefix):
    unpack(write(tmp_path / "a", {prefix + name: content for name, content in FILES.items()}), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    ("files", "links"),
    [
        ({**FILES, "../outside": b""}, ()),
        ({**FILES, "a/../../outside": b""}, ()),
        ({**FILES, "/tmp/outside": b""}, ()),
        (FILES, [("variables/x", "/etc/passwd")]),
    ],
)
def test_nothing_leads_out_of_the_folder(tmp_path, files, links):
    with pytest.raises(SourceError, match="link or leads out"):
        unpack(write(tmp_path / "a", files, links=links), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "outside").exists()


def test_what_is_no_whole_archive(tmp_path):
    whole = write(tmp_path / "whole", {"big": bytes(range(256)) * 1000}).read_bytes()
    for content in (b"<html>", b"", whole[: len(whole) // 2]):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(SourceError, match="archive"):
            unpack(tmp_path / "a", tmp_path / "out")


def test_the_entry_of_an_address():
    entry = catalogue.find("tfhub:https://tfhub.dev/google/imagenet/Mobile_v2/5")
    assert entry.sources == (Archive(url="https://tfhub.dev/google/imagenet/Mobile_v2/5?tf-hub-format=compressed"),)
    assert entry.filename.startswith("tfhub.dev-google-imagenet-Mobile_v2-5-")
    assert (
        catalogue.find("tfhub:https://a.example/m/5").filename != catalogue.find("tfhub:https://a.example/m-5").filename
    )
    packed = catalogue.find("tfhub:https://a.example/m.tar.gz")
    assert packed.sources == (Archive(url="https://a.example/m.tar.gz"),)
    with pytest.raises(UserError, match="no such thing"):
        catalogue.find("tfhub:http://a.example/m")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The address of a folder, and an entry for `module.tgz` in it."""
    (tmp_path / "www").mkdir()
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFPT_WEIGHTS", raising=False)
    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = Archive(url=f"http://127.0.0.1:{server.server_port}/module.tgz")
        entry = Entry(name="tfhub:probe", filename="probe", sources=(source,), licence="", origin="")
        monkeypatch.setattr(catalogue, "CATALOGUE", MappingProxyType({entry.name: entry}))
        yield tmp_path / "www"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_it_is_fetched_once_and_only_the_same_is_taken_again(served):
    write(served / "module.tgz", FILES)
    folder = fetch.fetch("tfhub:probe")
    assert contents(folder) == FILES
    write(served / "module.tgz", {**FILES, "saved_model.pb": b"other"})
    assert contents(fetch.fetch("tfhub:probe")) == FILES  # what is there is whole: nobody is asked
    (folder / "saved_model.pb").write_bytes(b"damage")
    with pytest.raises(UserError, match="not what came first"):
        fetch.fetch("tfhub:probe")
    write(served / "module.tgz", FILES)
    assert contents(fetch.fetch("tfhub:probe")) == FILES


def test_a_bad_archive_leaves_nothing(served):
    write(served / "module.tgz", FILES, links=[("variables/x", "/etc/passwd")])
    with pytest.raises(UserError, match="is a link or leads out"):
        fetch.fetch("tfhub:probe")
    assert not [f for f in (served.parent / "home").rglob("*") if f.is_file() and f.suffix != ".lock"]
