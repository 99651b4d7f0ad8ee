"""Sentences of tokens with a tag each, however a file writes them."""

import array
import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.data import Index, Info
from tfpt.data._content import content_hash
from tfpt.data._labels import sorted_names
from tfpt.data._texts import Texts, TextsBuilder

if TYPE_CHECKING:
    import numpy as np

_SCHEME = re.compile(r"O|[BIESLU]-.+", re.DOTALL)
_IOB = {"B": "B", "S": "B", "U": "B", "I": "I", "E": "I", "L": "I"}
"""First letter of a tag in IOB, BIOES and BILOU -> in IOB2."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tagged:
    """All sentences of all files.

    Attributes:
        files: path and split of each file.
        file: `[sentences]` int64, in which file each is.
        line: `[sentences]` int64, where it begins there.
        texts: their tokens, with one space between them.
        starts: `[sentences + 1]` int64, where the tags of each begin.
        tags: `[tokens]` int64, indices into `classes`.
        classes: the tags by index.
        content: a hash of each text.
        notes: sentences for the user.
    """

    files: tuple[tuple[Path, str], ...]
    file: "np.ndarray"
    line: "np.ndarray"
    texts: Texts
    starts: "np.ndarray"
    tags: "np.ndarray"
    classes: tuple[str, ...]
    content: Sequence[bytes]
    notes: tuple[str, ...]

    def info(self, origin: str) -> Info:
        """Returns the features, the tags and the number of sentences."""
        features = {"text": "text", "tags": "tags"}
        return Info(features=features, classes=self.classes, size=len(self.line), origin=origin, notes=self.notes)

    def index(self) -> Index:
        """Returns one row a sentence, named by file and line: `train.txt:17`."""
        rows = list(zip(self.file.tolist(), self.line.tolist(), strict=True))
        names = [f"{self.files[file][0].name}:{line}" for file, line in rows]
        splits = [self.files[file][1] for file, _ in rows]
        return Index(names=names, labels=None, splits=splits, truth=self._truth)

    def example(self, k: Any) -> dict[str, Any]:
        """Returns sentence k: `text`, a scalar string of tokens with one space between them, and `tags`, `[tokens]` int64."""
        import tensorflow as tf

        starts, tags = self._tensors
        own = tags[tf.gather(starts, k) : tf.gather(starts, k + 1)]
        return {"text": self.texts.read(k), "tags": tf.ensure_shape(own, [None])}

    @functools.cached_property
    def _truth(self) -> list[bytes]:
        """A hash of each sentence's tags by their names, whose numbers depend on the other sentences."""
        names = [name.encode(errors="replace") for name in self.classes]
        tags, starts = self.tags.tolist(), self.starts.tolist()
        return [content_hash(*(names[tag] for tag in tags[start:end])) for start, end in itertools.pairwise(starts)]

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(self.starts), tf.constant(self.tags)


class TaggedBuilder:
    """Collects sentences for `Tagged`."""

    def __init__(self) -> None:
        self._texts = TextsBuilder()
        self._content: list[bytes] = []
        self._file = array.array("q")
        self._line = array.array("q")
        self._starts = array.array("q", [0])
        self._tags = array.array("q")
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._line)

    def add(self, tokens: Sequence[str], tags: Sequence[str], *, file: int, line: int) -> None:
        """Adds one sentence.

        Args:
            tokens: none is empty; a space inside one is kept as a no-break space.
            tags: one a token.
            file: number of its file.
            line: where it begins there.
        """
        text = " ".join(re.sub(r"\s", "\u00a0", token) for token in tokens).encode(errors="replace")
        self._texts.append(text)
        self._content.append(content_hash(text))
        self._file.append(file)
        self._line.append(line)
        for tag in tags:
            self._tags.append(self._numbers.setdefault(tag, len(self._numbers)))
        self._starts.append(len(self._tags))

    def build(self, files: tuple[tuple[Path, str], ...], notes: Sequence[str]) -> Tagged:
        """Returns the sentences, entities in IOB2; nothing can be added afterwards."""
        import numpy as np

        names = list(self._numbers)
        tags = np.frombuffer(self._tags, np.int64)
        starts = np.frombuffer(self._starts, np.int64)
        said = list(notes)
        if all(map(_SCHEME.fullmatch, names)):
            names, tags, note = _to_iob2(names, tags, starts)
            said += [note] if note else []
            order = sorted(names, key=lambda tag: (tag != "O", tag[2:], tag))
        else:
            order = list(sorted_names(names))
        number = {name: k for k, name in enumerate(order)}
        return Tagged(
            files=files,
            file=np.frombuffer(self._file, np.int64),
            line=np.frombuffer(self._line, np.int64),
            texts=self._texts.build(),
            starts=starts,
            tags=np.array([number[name] for name in names], np.int64)[tags],
            classes=tuple(order),
            content=self._content,
            notes=tuple(said),
        )


def _to_iob2(names: list[str], tags: "np.ndarray", starts: "np.ndarray") -> tuple[list[str], "np.ndarray", str]:
    """Writes entities so that each begins with B, and with B only (Tjong Kim Sang and Veenstra, 1999).

    Args:
        names: the tags by number.
        tags: `[tokens]` int64, numbers.
        starts: `[sentences + 1]` int64.

    Returns:
        names, tags, and what was changed.
    """
    import numpy as np

    kinds = ["" if name == "O" else name[2:] for name in names]
    types = sorted({kind for kind in kinds if kind})
    letters = np.array(["O" if name == "O" else _IOB[name[0]] for name in names])[tags]
    ends = np.array([name[0] in "ESLU" for name in names])[tags]  # the entity ends here, whatever comes next
    kind = np.array([types.index(kind) if kind else -1 for kind in kinds])[tags]
    before = np.concatenate([[-1], kind[:-1]])
    closed = np.concatenate([[True], ends[:-1]])
    closed[starts[:-1]] = True
    new = (letters == "I") & ((before != kind) | closed)
    letters = np.where(new, "B", letters)
    wanted = np.where(kind < 0, 0, 1 + 2 * kind + (letters == "I"))
    all_names = ["O", *(f"{letter}-{kind}" for kind in types for letter in "BI")]
    used, compact = np.unique(wanted, return_inverse=True)
    other = sorted({name[0] for name in names} - set("OBI"))
    changed = int(np.sum(new))
    note = ""
    if other:
        note = f"Tags with {', '.join(other)} (BIOES or BILOU) are converted to IOB2."
    elif changed:
        note = f"{changed} entities begin with I (IOB1); their first tag is converted to B (IOB2)."
    return [all_names[k] for k in used], compact, note
