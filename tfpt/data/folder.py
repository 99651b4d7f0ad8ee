"""`--data=folder:PATH`: a folder of pictures, one folder a class, or train, validation and test with classes below."""

import dataclasses
import difflib
import functools
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.data import DataSource, Index, Info, _tiff
from tfpt.data._digests import file_digests
from tfpt.data._walk import UNREADABLE_PICTURES, Walk, shown, walk
from tfpt.errors import UserError
from tfpt.weights.home import home

if TYPE_CHECKING:
    import numpy as np

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclasses.dataclass(frozen=True)
class _Content:
    """What the folder holds: `files` (relative paths), `names`, `splits` and `labels` have one entry an example."""

    files: list[bytes]
    names: list[str]
    splits: list[str]
    labels: "np.ndarray"
    classes: tuple[str, ...]
    notes: tuple[str, ...]


class Folder(DataSource):
    """Pictures in folders: JPEG, PNG, GIF, BMP, WebP and, with the extra tiff, TIFF files, whose folder says their class."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(DataSource.Config):
        """Flags of the group `data`."""

        label: str = setting(
            "top",
            "What names a picture's class. top: the uppermost folder; path: all folders above it, such as animals/cat.",
            choices=("top", "path"),
        )

        def __post_init__(self) -> None:
            check(self.label in ("top", "path"), f"label: {self.label} is not top or path")

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError("--data=folder needs a path; write --data=folder:PATH.")
        self.path = Path(argument).expanduser().absolute()

    def info(self) -> Info:
        """Returns classes, number of pictures, and notes on what was ignored."""
        content = self._content
        return Info(
            features={"image": "image", "label": "class"},
            classes=content.classes,
            size=len(content.files),
            origin=f"folder {shown(os.fsencode(self.path))}",
            notes=content.notes,
        )

    def index(self) -> Index:
        """Returns one row a picture, named by its path relative to the folder."""
        content = self._content
        return Index(names=content.names, labels=content.labels, splits=content.splits)

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each file's content; remembered in TFPT_HOME/digests.

        Raises:
            UserError: a file cannot be read, or is gone.
        """
        return file_digests(os.fsencode(self.path), self._content.files, cache=home() / "digests")

    def example(self, k: Any) -> dict[str, Any]:
        """Returns picture k: `image`, the file's bytes, and `label`."""
        import tensorflow as tf

        paths, labels = self._tensors
        read = _tiff.read_picture if any(map(_tiff.is_tiff_name, self._content.files)) else tf.io.read_file
        return {"image": read(tf.gather(paths, k)), "label": tf.gather(labels, k)}

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        import tensorflow as tf

        root = os.fsencode(self.path)
        with tf.init_scope():  # outside of the graph that is being traced: one constant for all of them
            paths = tf.constant([os.path.join(root, file) for file in self._content.files])  # noqa: PTH118
            return paths, tf.constant(self._content.labels)

    @functools.cached_property
    def _content(self) -> _Content:
        import numpy as np

        self._check_path()
        found = walk(os.fsencode(self.path))
        tops = {file.split(b"/")[0] for file in found.files if b"/" in file}
        named = {top: _SPLITS.get(shown(top).lower(), "") for top in tops}
        depth = 1 if tops and all(named.values()) else 0  # folders above the class folders
        files, stray = [], 0
        for file in found.files:
            if file.count(b"/") > depth:
                files.append(file)
            else:
                stray += 1
        if not files:
            self._raise_nothing(found, stray, depth)
        tiff = next(filter(_tiff.is_tiff_name, files), None)
        if tiff:
            _tiff.check_readable(os.path.join(os.fsencode(self.path), tiff), where=self._where)  # noqa: PTH118
        folders = [b"/".join(file.split(b"/")[depth:-1]) for file in files]
        if self.config.label == "top":
            folders = [folder.split(b"/")[0] for folder in folders]
        spelled: dict[str, set[bytes]] = defaultdict(set)
        for folder in set(folders):
            spelled[_class_name(folder)].add(folder)
        classes = tuple(sorted(spelled))
        number = {folder: k for k, name in enumerate(classes) for folder in spelled[name]}
        return _Content(
            files=files,
            names=_unique(files),
            splits=[named[file.split(b"/")[0]] if depth else "" for file in files],
            labels=np.array([number[folder] for folder in folders], np.int64),
            classes=classes,
            notes=(
                *_notes(found, stray, depth, named, spelled),
                *self._one_class(classes, files, depth),
                *([_tiff.NOTE] if tiff else []),
            ),
        )

    def _one_class(self, classes: Sequence[str], files: Sequence[bytes], depth: int) -> Iterable[str]:
        """Says how the folders below a single class would become classes."""
        below = sorted({shown(b"/".join(file.split(b"/")[depth:-1])) for file in files})
        if len(classes) == 1 and self.config.label == "top" and len(below) > 1:
            yield f"All pictures are of one class, {classes[0]}; for the folders below it ({', '.join(below[:3])}, ...) write --data.label=path."

    @property
    def _where(self) -> str:
        return f"--data=folder:{shown(os.fsencode(self.argument))}"

    def _check_path(self) -> None:
        where = self._where
        try:
            if self.path.is_dir():
                return
        except OSError as error:  # a name too long, a parent that cannot be entered
            raise UserError(f"{where} cannot be read: {error.strerror}.") from error
        if self.path.exists():
            raise UserError(
                f"{where} is a file, not a folder; give the folder with the pictures (unpack an archive first)."
            )
        parent = next(folder for folder in self.path.parents if folder.is_dir())
        missing = self.path.relative_to(parent).parts[0]
        beside = {path.name.lower(): path for path in parent.iterdir()} if os.access(parent, os.R_OK) else {}
        close = [shown(os.fsencode(beside[name])) for name in difflib.get_close_matches(missing.lower(), beside)]
        hint = f"did you mean {' or '.join(close)}?" if close else "give the path of a folder that exists."
        raise UserError(f"{where}: there is no {shown(os.fsencode(parent / missing))}; {hint}")

    def _raise_nothing(self, found: Walk, stray: int, depth: int) -> None:
        where = self._where
        if stray:
            inside = "its split folders" if depth else "it"
            raise UserError(
                f"{where}: {stray} pictures lie directly in {inside}, but none in a class folder; put the pictures of each "
                "class into a folder named after it."
            )
        if not (found.folders or found.others or found.litter or found.broken):
            raise UserError(f"{where} is empty; give a folder that holds one folder of pictures for each class.")
        wayout = (
            f"convert them to JPEG or PNG{_install(_unreadable(found))}"
            if _unreadable(found)
            else "there should be .jpg, .png, .gif, .bmp or .webp files"
        )
        seen = _counts(found.others) if found.others else f"only {len(found.folders)} folders without pictures"
        raise UserError(f"{where} holds no picture that can be read; found: {seen}; {wayout}.")


def _class_name(folder: bytes) -> str:
    """Returns the name in Unicode's composed form: macOS writes an umlaut as two characters, others as one."""
    return unicodedata.normalize("NFC", shown(folder))


def _unique(files: Sequence[bytes]) -> list[str]:
    """Returns the names to show; where Latin-1 and UTF-8 names look the same, the odd bytes are written as `\\xfc`."""
    names = [shown(file) for file in files]
    often = Counter(names)
    return [
        name if often[name] == 1 else file.decode(errors="backslashreplace")
        for name, file in zip(names, files, strict=True)
    ]


def _notes(
    found: Walk, stray: int, depth: int, named: dict[bytes, str], spelled: dict[str, set[bytes]]
) -> Iterable[str]:
    if stray:
        yield f"Ignored: {stray} pictures that lie directly in {'a split folder' if depth else 'the folder'} and have no class."
    if not depth and len(set(named.values()) - {""}) > 1:
        looks = sorted(shown(top) for top, split in named.items() if split)
        rest = sorted(shown(top) for top, split in named.items() if not split)
        yield (
            f"{', '.join(looks)} look like splits but are taken for classes, because {', '.join(rest[:3])} beside them is "
            "none; move it away if they are splits."
        )
    for name, folders in sorted(spelled.items()):
        if len(folders) > 1:
            yield f"The class {name} is spelled in {len(folders)} ways (Unicode forms or encodings) and was merged."
    beside = {_class_name(folder.split(b"/")[depth]) for folder in found.folders if folder.count(b"/") == depth}
    empty = sorted(beside - {name.split("/")[0] for name in spelled})
    if empty:
        yield f"No class, because without pictures: {', '.join(empty[:10])}{' and more' * (len(empty) > 10)}."
    if found.litter:
        yield f"Ignored: {found.litter} hidden files and files of the operating system (.DS_Store, Thumbs.db and the like)."
    unreadable = _unreadable(found)
    if unreadable:
        yield f"Ignored: {_counts(unreadable)}, which TensorFlow cannot read; convert them to JPEG or PNG to use them{_install(unreadable)}."
    others = found.others - unreadable
    if others:
        yield f"Ignored: {_counts(others)}, which are no pictures."
    if found.broken:
        yield f"Ignored: {found.broken} links that lead nowhere."
    if found.loops:
        yield f"Ignored: {found.loops} links to a folder that they lie in."


def _unreadable(found: Walk) -> Counter[bytes]:
    return Counter({extension: n for extension, n in found.others.items() if extension in UNREADABLE_PICTURES})


def _install(unreadable: Counter[bytes]) -> str:
    return "; TIFF is read after pip install 'tfpt[tiff]'" if unreadable.keys() & _tiff.EXTENSIONS else ""


def _counts(extensions: Counter[bytes]) -> str:
    """Returns `3 .txt files, 1 .xml file`, the most frequent first."""
    parts = [
        f"{n} {'.' + shown(extension) if extension else 'extensionless'} file{'s' * (n > 1)}"
        for extension, n in sorted(extensions.items(), key=lambda item: (-item[1], item[0]))
    ]
    return ", ".join(parts[:5]) + (f" and {len(parts) - 5} other kinds" if len(parts) > 5 else "")
