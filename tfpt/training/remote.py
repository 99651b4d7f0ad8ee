"""A run folder on an object store, such as gs://: training works in a copy of it, in tfpt's cache, that is sent there.

An object store has no folders that could be renamed, so a checkpoint appears file by file. What makes it one is its state.txt,
which is sent last and holds the digests of the others; a folder without it is not there.
"""

import contextlib
import fcntl
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import tensorflow as tf

from tfpt.errors import OutsideError, UserError
from tfpt.training.checkpoints import STATE_FILE
from tfpt.weights.home import home

STATUS_FILE = "status.json"
LOCK_FILE = ".lock"
SECONDS_BETWEEN = 30.0
"""Between checkpoints, so often at most is sent what has changed."""
_CHECKPOINTS = "checkpoints"
_Stamp = tuple[int, int]


def url_of(path: str | Path) -> str:
    """Returns the address that a path stands for; empty for a local one. `Path` makes gs:/ of gs://."""
    found = re.fullmatch(r"([a-z][a-z0-9]+):/+(.+)", str(path))
    return f"{found[1]}://{found[2]}" if found else ""


def exists(path: str | Path) -> bool:
    """Tells whether a folder is there, local or not."""
    url = url_of(path)
    if not url:
        return Path(path).exists()
    with _told(url):
        return bool(tf.io.gfile.exists(url))


class Remote:
    """The folder of a run on an object store, and its copy.

    Args:
        url: of the folder.
        worker: the place of this process among several, each of which has a copy of its own.
    """

    def __init__(self, url: str, *, worker: int = 0) -> None:
        self.url = url.rstrip("/")
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.copy = home() / "runs" / (f"{name}-{worker}" if worker else name)
        self._there: dict[str, _Stamp] = {}
        self._here: dict[str, _Stamp] = {}
        self._sent_at = float("-inf")

    def pull(self) -> None:
        """Makes the copy what is on the store; half-sent checkpoints are left out.

        One in which another process is training stays as it is: what that has not sent yet would be lost.

        Raises:
            UserError: the store cannot be read.
        """
        if _is_held(self.copy):
            return
        with _told(self.url):
            there = self._remote_files()
            for name in _local_files(self.copy):
                if name not in there:
                    (self.copy / name).unlink()
                    with contextlib.suppress(OSError):  # an empty folder would look like a damaged checkpoint
                        (self.copy / name).parent.rmdir()
            for name, stamp in there.items():
                file = self.copy / name
                if self._there.get(name) != stamp or not file.is_file():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with contextlib.suppress(tf.errors.NotFoundError):  # the process that writes has removed it since
                        tf.io.gfile.copy(f"{self.url}/{name}", str(file), overwrite=True)
        self._there, self._here = there, _local_files(self.copy)

    def push(self, *, now: bool = True) -> None:
        """Sends what has changed, and removes what is gone.

        Args:
            now: at once; else only if the last time is a while ago.

        Raises:
            UserError: the store cannot be written.
        """
        if not now and time.monotonic() - self._sent_at < SECONDS_BETWEEN:
            return
        here = _local_files(self.copy)
        changed = [name for name, stamp in here.items() if self._here.get(name) != stamp]
        gone = [name for name in self._here if name not in here]
        with _told(self.url):
            for marker in {_marker(name) for name in changed} & self._here.keys():
                self._remove(marker)  # what is half sent again is no checkpoint
            for name in sorted(changed, key=_order):
                self._send(name)
            for name in sorted(
                gone, key=_order, reverse=True
            ):  # its marker first: what is half removed is no checkpoint
                self._remove(name)
            for folder in {str(PurePosixPath(name).parent) for name in gone} - {_parent(name) for name in here}:
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.rmtree(f"{self.url}/{folder}")
        self._here = here
        self._sent_at = time.monotonic()

    def _send(self, name: str) -> None:
        folder, _, last = f"{self.url}/{name}".rpartition("/")
        tf.io.gfile.makedirs(folder)
        hidden = f"{folder}/.sent-{last}"  # not every store replaces a file in one step; ram:// appends to it
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.remove(hidden)
        try:
            tf.io.gfile.copy(str(self.copy / name), hidden, overwrite=True)
        except tf.errors.NotFoundError:  # it was there for a moment only
            return
        tf.io.gfile.rename(hidden, f"{folder}/{last}", overwrite=True)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.remove(f"{self.url}/{name}")

    def _remote_files(self) -> dict[str, _Stamp]:
        found: dict[str, _Stamp] = {}
        if not tf.io.gfile.exists(self.url):
            return found
        for folder, _, files in tf.io.gfile.walk(self.url):
            inside = folder.rstrip("/")[len(self.url) :].strip("/")
            if inside.startswith(f"{_CHECKPOINTS}/") and STATE_FILE not in files:
                continue
            for name in (name for name in files if not name.startswith(".")):
                with contextlib.suppress(tf.errors.NotFoundError):  # as above
                    stat = tf.io.gfile.stat(f"{folder.rstrip('/')}/{name}")
                    found[f"{inside}/{name}" if inside else name] = (stat.length, stat.mtime_nsec)
        return found


def _local_files(folder: Path) -> dict[str, _Stamp]:
    """Returns size and time of each file that belongs to the run; hidden ones are locks and what is being written."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            if file.is_file():
                found[name.as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return found


def _is_held(folder: Path) -> bool:
    """Tells whether a process of this machine holds the lock of a run folder."""
    try:
        with (folder / LOCK_FILE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or the file system has no locks
        pass
    return False


def _parent(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _marker(name: str) -> str:
    """Returns the file that makes a checkpoint of the folder that a file is in."""
    return f"{_parent(name)}/{STATE_FILE}" if name.startswith(f"{_CHECKPOINTS}/") else ""


def _order(name: str) -> tuple[int, str]:
    """What a run begins with first, for a checkpoint goes on with it; then files of checkpoints, what makes them one after these, and
    what tells of the run last."""
    if name == STATUS_FILE:
        return 3, name
    if name.startswith(f"{_CHECKPOINTS}/"):
        return 1 + int(name.endswith(f"/{STATE_FILE}")), name
    return 0, name


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Says which folder it is that cannot be reached."""
    try:
        yield
    except tf.errors.UnimplementedError as error:
        scheme = url.partition(":")[0]
        raise UserError(
            f"--output.run_dir={url}: this TensorFlow cannot read {scheme}://; choose a local folder."
        ) from error
    except (tf.errors.OpError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OutsideError(
            f"--output.run_dir={url} cannot be reached: {reason}; the same command goes on when it can."
        ) from error
