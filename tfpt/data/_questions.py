"""Questions whose answers are spans of a context, however a file writes them."""

import array
import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.data import Index, Info
from tfpt.data._content import content_hash
from tfpt.data._texts import Texts, TextsBuilder
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SEPARATOR = "\x1f"
"""Between the texts of `answers`."""
_NEARBY = 32
"""Characters around a wrong start in which the answer is looked for."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """All questions of all files; one entry each but for `contexts`, which `context` points into.

    Attributes:
        files: path and split of each file.
        file: in which file each is.
        names: what each is called.
        texts: `question`, `answer_text` and `answers`.
        contexts: the different contexts of a file one after the other.
        context: `[questions]` int64, an index into `contexts`.
        context_keys: a hash of each context.
        start: `[questions]` int64, the answer's place in the context in characters; -1 where there is none.
        content: a hash of each question with its context.
        notes: sentences for the user.
    """

    files: tuple[tuple[Path, str], ...]
    file: Sequence[int]
    names: Sequence[str]
    texts: dict[str, Texts]
    contexts: Texts
    context: "np.ndarray"
    context_keys: Sequence[bytes]
    start: "np.ndarray"
    content: Sequence[bytes]
    notes: tuple[str, ...]

    def info(self, origin: str) -> Info:
        """Returns the features and the number of questions."""
        features = {"question": "text", "context": "text", "answer_text": "text", "answer_start": "position"}
        return Info(features={**features, "answers": "texts"}, size=len(self.names), origin=origin, notes=self.notes)

    def index(self) -> Index:
        """Returns one row a question; those about one context stay together."""
        splits = [self.files[file][1] for file in self.file]
        together = [self.context_keys[context] for context in self.context.tolist()]
        answers = self.texts["answers"]
        truth = [content_hash(answers[k], b"%d" % start) for k, start in enumerate(self.start.tolist())]
        return Index(names=self.names, labels=None, splits=splits, together=together, truth=truth)

    def example(self, k: Any) -> dict[str, Any]:
        """Returns question k.

        `question` and `context` are scalar strings, `answer_text` the first answer (empty when there is none),
        `answer_start` int64 its place in `context` in characters (-1 when there is none), `answers` all accepted texts
        with `SEPARATOR` between them.
        """
        import tensorflow as tf

        context, start = self._tensors
        return {
            **{name: texts.read(k) for name, texts in self.texts.items()},
            "context": self.contexts.read(tf.gather(context, k)),
            "answer_start": tf.gather(start, k),
        }

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(self.context), tf.constant(self.start)


@dataclasses.dataclass(frozen=True)
class _Answer:
    """An answer; the text is empty and the start -1 when there is none."""

    text: str = ""
    start: int = -1
    accepted: tuple[str, ...] = ()
    repaired: bool = False


class QuestionsBuilder:
    """Collects questions for `Questions`."""

    def __init__(self) -> None:
        self._builders = {name: TextsBuilder() for name in ("question", "answer_text", "answers")}
        self._contexts = TextsBuilder()
        self._numbers: dict[bytes, int] = {}
        self._context = array.array("q")
        self._start = array.array("q")
        self._file: list[int] = []
        self._names: list[str] = []
        self._content: list[bytes] = []
        self._often: Counter[str] = Counter()
        self._repaired = 0
        self._lost: list[str] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, question: str, context: str, answers: Sequence[tuple[Any, Any]], *, name: str, file: int) -> None:
        """Adds one question, unless it has answers and none stands in its context.

        Args:
            question: what is asked.
            context: where the answer is.
            answers: text and start in characters of each; a start of None is the first place where the text stands.
            name: what the question is called; a second one of this name gets `#2` behind it.
            file: number of its file.
        """
        answer = _first_that_stands(answers, context)
        if answer is None:
            self._lost.append(name)
            return
        self._repaired += answer.repaired
        text, raw = question.encode(errors="replace"), context.encode(errors="replace")
        key = content_hash(raw)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._contexts.append(raw)
        self._builders["question"].append(text)
        self._builders["answer_text"].append(answer.text.encode(errors="replace"))
        self._builders["answers"].append(SEPARATOR.join(answer.accepted).encode(errors="replace"))
        self._context.append(self._numbers[key])
        self._start.append(answer.start)
        self._content.append(content_hash(text, raw))
        self._often[name] += 1
        self._names.append(name if self._often[name] == 1 else f"{name}#{self._often[name]}")
        self._file.append(file)

    def build(self, files: tuple[tuple[Path, str], ...], notes: Sequence[str]) -> Questions:
        """Returns the questions; nothing can be added afterwards.

        Raises:
            UserError: there are none.
        """
        import numpy as np

        if not self._names:
            raise UserError(f"{files[0][0]} holds no question whose answer is in its context.")
        said = list(notes)
        if self._repaired:
            said.append(f"{self._repaired} answers did not stand where answer_start says, and were found close by.")
        if lost := self._lost:
            said.append(
                f"{len(lost)} questions are left out, because no answer stands in the context where answer_start says: "
                f"{', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}."
            )
        return Questions(
            files=files,
            file=self._file,
            names=self._names,
            texts={name: builder.build() for name, builder in self._builders.items()},
            contexts=self._contexts.build(),
            context=np.array(self._context, np.int64),
            context_keys=list(self._numbers),
            start=np.array(self._start, np.int64),
            content=self._content,
            notes=tuple(said),
        )


def _first_that_stands(answers: Sequence[tuple[Any, Any]], context: str) -> _Answer | None:
    """Returns the first answer that stands in the context; None when there are answers, but none stands there."""
    if not answers:
        return _Answer()
    places = [(text, start, _place(text, start, context)) for text, start in answers]
    accepted = tuple(dict.fromkeys(text for text, _, place in places if place >= 0))
    for text, start, place in places:
        if place >= 0:
            return _Answer(text, place, accepted, repaired=start is not None and place != start)
    return None


def _place(text: Any, start: Any, context: str) -> int:
    """Returns where an answer stands: at `start`, or at the only place close by; -1 when there is none."""
    if not (isinstance(text, str) and text):
        return -1
    if start is None:
        return context.find(text)
    if not isinstance(start, int):
        return -1
    if start >= 0 and context.startswith(text, start):
        return start
    low = max(0, start - _NEARBY)
    high = max(0, start + _NEARBY + len(text))
    place = context.find(text, low, high)
    return place if context.find(text, place + 1, high) < 0 else -1
