"""Unpacks a .tar.gz that somebody else made, without letting it out of its folder."""

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from tfpt.weights.package_index import SourceError


def unpack(file: Path, folder: Path) -> None:
    """Writes the files of an archive into a new folder. One folder that holds everything is left out.

    Raises:
        SourceError: it is no archive, is damaged, or holds a link, a device, or a path that leads out of it.
    """
    try:
        with tarfile.open(file, mode="r:*") as archive:
            members = archive.getmembers()
            bad = next((m.name for m in members if not _is_harmless(m)), None)
            if bad is not None:
                raise SourceError(f"the archive holds {bad}, which is a link or leads out of it")
            files = {PurePosixPath(m.name): m for m in members if m.isreg()}
            shared = {path.parts[0] for path in files}
            strip = 1 if len(shared) == 1 and all(len(path.parts) > 1 for path in files) else 0
            for path, member in files.items():
                target = folder.joinpath(*path.parts[strip:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(member) as source, target.open("wb") as written:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, written)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise SourceError(f"what came is no archive, or a damaged one ({error})") from error
    if not files:
        raise SourceError("the archive is empty")


def _is_harmless(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    return (member.isreg() or member.isdir()) and not path.is_absolute() and ".." not in path.parts
