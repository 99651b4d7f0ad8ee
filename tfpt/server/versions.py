"""Which versions of the model answer: new folders are loaded while the old ones go on, and nobody's request is lost."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.server.metrics import Metrics
from tfpt.server.model import Model
from tfpt.server.refusal import Code, Refusal
from tfpt.serving.servable import is_version

_KEPT_STATES = 100


@dataclasses.dataclass
class _Loaded:
    """A version in memory; it leaves when it is retired and its last request is answered."""

    model: Model
    files: object
    users: int = 0
    retired: bool = False


@dataclasses.dataclass(frozen=True)
class State:
    """How a version is, in TensorFlow Serving's words (`LOADING`, `AVAILABLE`, `UNLOADING`, `END`).

    Attributes:
        name: the word.
        error: why it could not be loaded.
    """

    name: str
    error: str = ""


class Versions:
    """The versions of one model; everything but loading happens on the event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        policy: tuple[str, ...],
        labels: Mapping[str, int],
        load: Callable[[Path], Model],
        console: Console,
        metrics: Metrics,
    ) -> None:
        """Loads nothing yet.

        Args:
            folder: `saved_models/NAME`, or one version folder, which is then the only one.
            name: that clients use.
            policy: `("latest",)`, `("all",)` or numbers.
            labels: names for versions.
            load: makes a model of a version folder; runs in a thread.
            console: where comings and goings are said.
            metrics: where they are counted.
        """
        self.name = name
        self.labels = dict(labels)
        self.states: dict[int, State] = {}
        self._single = (folder / "saved_model.pb").is_file()
        self.folder = folder
        self._policy = policy
        self._load = load
        self._console = console
        self._metrics = metrics
        self._loaded: dict[int, _Loaded] = {}
        self._failed: dict[int, object] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "tfpt-load")
        self._scanning = asyncio.Lock()

    async def start(self) -> None:
        """Loads the versions that are wanted.

        Raises:
            UserError: there is none, or one of them cannot be loaded; of `all`, those that can be are enough.
        """
        found = self._found()
        asked = [*map(int, [] if self._policy[0] in ("latest", "all") else self._policy), *self.labels.values()]
        absent = [version for version in asked if version not in found]
        if absent or not found:
            raise UserError(
                f"--model={self.folder} holds no version {absent[0] if absent else 'folder'}; give a folder that "
                "`tfpt train` exported, such as saved_models/NAME."
            )
        try:
            wanted = await self.scan()
        except OSError as error:
            raise UserError(f"--model={self.folder} cannot be looked at ({error.strerror}); try it again.") from error
        enough = self._policy[0] == "all" and self._loaded
        for version in [version for version in wanted if version not in self._loaded]:
            if not enough or version in asked:
                raise UserError(self.states[version].error)
            self._console.warn(f"version {version} cannot be served: {self.states[version].error}")
        if not self._loaded:
            raise UserError(f"--model={self.folder} lost its version folders while they were read.")

    async def watch(self, seconds: float) -> None:
        """Looks for new versions until it is cancelled."""
        while not self._single:
            await asyncio.sleep(seconds)
            try:
                await self.scan()
            except OSError as error:
                self._console.warn(f"{self.folder} cannot be looked at ({error.strerror}).")

    async def scan(self) -> list[int]:
        """Loads what is new and wanted, and retires what is no longer wanted as soon as something else answers.

        Returns:
            The versions that are wanted.

        Raises:
            OSError: files went away while they were looked at.
        """
        async with self._scanning:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, self._found)
            wanted = self._wanted(found)
            for version in wanted:
                held = self._loaded.get(version)
                if held is None or held.files != await loop.run_in_executor(self._thread, _model_files, found[version]):
                    await self._take_in(version, found[version])
            if any(version in self._loaded for version in wanted):
                for version in [v for v in self._loaded if v not in wanted]:
                    self._retire(version)
            return wanted

    @property
    def newest(self) -> int:
        """The number of the newest version that answers."""
        return max(self._loaded)

    @contextlib.contextmanager
    def lease(self, *, name: str, version: int | None = None, label: str = "") -> Iterator[tuple[int, Model]]:
        """Yields a version's number and model, which stays until the block ends.

        Args:
            name: of the model, as the client gave it.
            version: a number; None: the newest.
            label: a name for a version.

        Raises:
            Refusal: there is no such model, version or label.
        """
        number = self._number(name, version, label)
        held = self._loaded[number]
        held.users += 1
        try:
            yield number, held.model
        finally:
            held.users -= 1
            self._drop_if_unused(number, held)

    def _number(self, name: str, version: int | None, label: str) -> int:
        if name != self.name:
            raise Refusal(Code.NOT_FOUND, f"Servable not found for request: Latest({name[:100]})")
        if label:
            if label not in self.labels:
                raise Refusal(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label[:100]}")
            version = self.labels[label]
        if version is None:
            return self.newest
        if version not in self._loaded:
            raise Refusal(Code.NOT_FOUND, f"Servable not found for request: Specific({name}, {version})")
        return version

    async def _take_in(self, version: int, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        print_of = await loop.run_in_executor(self._thread, _fingerprint, folder)
        if self._failed.get(version) == print_of:
            return
        files, before = await loop.run_in_executor(self._thread, _model_files, folder), self._loaded.get(version)
        if before is None:  # else it goes on answering as it was
            self._set_state(version, State("LOADING"))
        try:
            model = await loop.run_in_executor(self._thread, self._load, folder)
        except Exception as error:  # whatever it is, the versions that answer go on
            sentence = (
                str(error) if isinstance(error, UserError) else f"--model={folder}: {type(error).__name__}: {error}"
            )
            self._failed[version] = print_of
            if before is None:
                self._set_state(version, State("END", sentence))
            self._metrics.loads.labels("failed").inc()
            if self._loaded:
                self._console.warn(f"version {version} cannot be served: {sentence}")
            return
        self._failed.pop(version, None)
        self._loaded[version] = _Loaded(model, files)
        self._set_state(version, State("AVAILABLE"))
        self._metrics.loads.labels("ok").inc()
        self._metrics.version.labels(self.name, version).set(1)
        self._console.say(f"Version {version} of {self.name} answers{', from its new files' if before else ''}.")
        if before is not None:
            before.retired = True
            self._drop_if_unused(version, before)

    def _retire(self, version: int) -> None:
        held = self._loaded.pop(version)
        held.retired = True
        self._set_state(version, State("UNLOADING"))
        self._metrics.version.remove(self.name, str(version))
        self._drop_if_unused(version, held)

    def _drop_if_unused(self, version: int, held: _Loaded) -> None:
        if held.retired and not held.users:
            if version not in self._loaded:
                self._set_state(version, State("END"))
                self._console.say(f"Version {version} of {self.name} has left.")
            with contextlib.suppress(RuntimeError):  # when the thread has ended, so does the process
                self._thread.submit(gc.collect)  # a loaded model is full of cycles

    def _set_state(self, version: int, state: State) -> None:
        self.states.pop(version, None)
        self.states[version] = state
        while len(self.states) > _KEPT_STATES:
            self.states.pop(next(iter(self.states)))

    def _found(self) -> dict[int, Path]:
        if self._single:
            return {int(self.folder.name) if is_version(self.folder.name) else 1: self.folder}
        folders = [f for f in self.folder.iterdir() if is_version(f.name)] if self.folder.is_dir() else []
        return {int(f.name): f for f in folders if int(f.name) < 2**63 and (f / "saved_model.pb").is_file()}

    def _wanted(self, found: Mapping[int, Path]) -> list[int]:
        if not found:
            return []
        rules = {"latest": {max(found)}, "all": set(found)}
        numbers = rules[self._policy[0]] if self._policy[0] in rules else set(map(int, self._policy))
        return sorted((numbers | set(self.labels.values())) & set(found))

    def close(self) -> None:
        """Ends the thread; a version that is being loaded is finished first."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _model_files(folder: Path) -> object:
    """Returns what changes when another model takes the folder's place; what is beside the model may come and go."""
    files = [folder / "saved_model.pb", *sorted((folder / "variables").glob("*"))]
    told = [(file.name, file.stat()) for file in files]
    return [(name, one.st_ino, one.st_size, one.st_mtime_ns) for name, one in told]


def _fingerprint(folder: Path) -> object:
    """Returns what changes when a file of the folder does: a copy that was not finished is tried again when it goes on."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
