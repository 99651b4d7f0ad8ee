"""`--data=squad:PATH`: questions whose answers are spans of a text, in the JSON of SQuAD 1.1 and 2.0."""

import array
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.data import DataSource, Index, Info
from tfpt.data._content import content_hash
from tfpt.data._files import find_files
from tfpt.data._texts import Texts, TextsBuilder
from tfpt.data._utf8 import json_value
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SEPARATOR = "\x1f"
"""Between the texts of `answers`."""
_NEARBY = 32
"""Characters around a wrong `answer_start` in which the answer is looked for."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Questions:
    """All questions; one entry each but for `contexts`, which `context` points into."""

    files: tuple[tuple[Path, str], ...]
    file: list[int]
    ids: list[str]
    texts: dict[str, Texts]
    contexts: Texts
    context: "np.ndarray"
    start: "np.ndarray"
    digests: list[bytes]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Answer:
    """An answer; the text is empty and the start -1 when there is none."""

    text: str = ""
    start: int = -1
    accepted: tuple[str, ...] = ()
    repaired: bool = False


class Squad(DataSource):
    """A SQuAD 1.1 or 2.0 file, or a folder with train, dev and test files: question, context and answers."""

    def info(self) -> Info:
        """Returns the features and the number of questions."""
        content = self._content
        features = {"question": "text", "context": "text", "answer_text": "text", "answer_start": "position"}
        return Info(
            features={**features, "answers": "texts"},
            size=len(content.ids),
            origin=f"squad {Path(self.argument).expanduser().absolute()}",
            notes=content.notes,
        )

    def index(self) -> Index:
        """Returns one row a question, named by its id; a second one with an id gets `#2` behind it."""
        content = self._content
        return Index(names=content.ids, labels=None, splits=[content.files[file][1] for file in content.file])

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each question with its context."""
        return self._content.digests

    def example(self, k: Any) -> dict[str, Any]:
        """Returns question k.

        `question` and `context` are scalar strings, `answer_text` the first answer (empty when there is none),
        `answer_start` int64 its place in `context` in characters (-1 when there is none), `answers` all accepted texts
        with `SEPARATOR` between them.
        """
        import tensorflow as tf

        context, start = self._tensors
        example = {name: texts.read(k) for name, texts in self._content.texts.items()}
        return {
            **example,
            "context": self._content.contexts.read(tf.gather(context, k)),
            "answer_start": tf.gather(start, k),
        }

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(self._content.context), tf.constant(self._content.start)

    @functools.cached_property
    def _content(self) -> _Questions:
        return _read(find_files(self.argument, source="squad", endings=("json",)))


def _read(found: Any) -> _Questions:
    import numpy as np

    builders = {name: TextsBuilder() for name in ("question", "answer_text", "answers")}
    contexts, context_of, start = TextsBuilder(), array.array("q"), array.array("q")
    files: list[int] = []
    ids: list[str] = []
    digests: list[bytes] = []
    notes, repaired, lost, contexts_seen = list(found.notes), 0, [], 0
    often: Counter[str] = Counter()
    for number, (path, _) in enumerate(found.files):
        paragraphs = list(_paragraphs(path))
        questions = [question for _, asked in paragraphs for question in asked]
        if not questions:
            raise UserError(f"{path} holds no questions.")
        if not any("answers" in question or question.get("is_impossible") for question in questions):
            notes.append(f"{path.name} has no answers and is left out.")
            continue
        for context, asked in paragraphs:
            raw = context.encode(errors="replace")
            contexts.append(raw)
            contexts_seen += 1
            for question in asked:
                answer = _answer(question, context, path)
                name = str(question.get("id") or f"{path.name}:{len(ids) + 1}")
                if answer is None:
                    lost.append(name)
                    continue
                repaired += answer.repaired
                text = question["question"].encode(errors="replace")
                builders["question"].append(text)
                builders["answer_text"].append(answer.text.encode(errors="replace"))
                builders["answers"].append(SEPARATOR.join(answer.accepted).encode(errors="replace"))
                context_of.append(contexts_seen - 1)
                start.append(answer.start)
                digests.append(content_hash(text, raw))
                often[name] += 1
                ids.append(name if often[name] == 1 else f"{name}#{often[name]}")
                files.append(number)
    if not ids:
        raise UserError(f"{found.files[0][0]} holds no question whose answer is in its context.")
    if repaired:
        notes.append(f"{repaired} answers did not stand where answer_start says, and were found close by.")
    if lost:
        notes.append(
            f"{len(lost)} questions are left out, because no answer stands in the context where answer_start says: "
            f"{', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}."
        )
    return _Questions(
        files=found.files,
        file=files,
        ids=ids,
        texts={name: builder.build() for name, builder in builders.items()},
        contexts=contexts.build(),
        context=np.array(context_of, np.int64),
        start=np.array(start, np.int64),
        digests=digests,
        notes=tuple(notes),
    )


def _paragraphs(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields context and questions."""
    value = json_value(path)
    try:
        for article in value["data"]:
            for paragraph in article["paragraphs"]:
                asked = paragraph["qas"]
                texts = [paragraph["context"], *(question["question"] for question in asked)]
                if not all(isinstance(text, str) for text in texts):
                    raise TypeError("a context or a question is not a text")
                yield paragraph["context"], asked
    except (KeyError, TypeError, IndexError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is not in the format of SQuAD (data, paragraphs, context and qas with question and answers): {why}."
        ) from error


def _answer(question: dict[str, Any], context: str, path: Path) -> _Answer | None:
    """Returns the first answer that stands in the context; None when there are answers, but none stands there."""
    given = question.get("answers") or []
    if question.get("is_impossible") or not given:
        return _Answer()
    try:
        spans = [(answer["text"], answer["answer_start"]) for answer in given]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: an answer of {question.get('id')} has no text or no answer_start.") from error
    places = [(text, start, _place(text, start, context)) for text, start in spans]
    accepted = tuple(dict.fromkeys(text for text, _, place in places if place >= 0))
    for text, start, place in places:
        if place >= 0:
            return _Answer(text, place, accepted, repaired=place != start)
    return None


def _place(text: Any, start: Any, context: str) -> int:
    """Returns where an answer stands: at `start`, or at the only place close by; -1 when there is none."""
    if not (isinstance(text, str) and text and isinstance(start, int)):
        return -1
    if start >= 0 and context.startswith(text, start):
        return start
    low = max(0, start - _NEARBY)
    high = max(0, start + _NEARBY + len(text))
    place = context.find(text, low, high)
    return place if context.find(text, place + 1, high) < 0 else -1
