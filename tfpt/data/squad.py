"""`--data=squad:PATH`: questions whose answers are spans of a text, in the JSON of SQuAD 1.1 and 2.0."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfpt.data import DataSource, Index, Info
from tfpt.data._files import find_files
from tfpt.data._questions import Questions, QuestionsBuilder
from tfpt.data._utf8 import json_value
from tfpt.errors import UserError


class Squad(DataSource):
    """A SQuAD 1.1 or 2.0 file, or a folder with train, dev and test files: question, context and answers."""

    def info(self) -> Info:
        """Returns the features and the number of questions."""
        return self._questions.info(f"squad {Path(self.argument).expanduser().absolute()}")

    def index(self) -> Index:
        """Returns one row a question, named by its id; a second one with an id gets `#2` behind it."""
        return self._questions.index()

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each question with its context."""
        return self._questions.content

    def example(self, k: Any) -> dict[str, Any]:
        """Returns question k as `Questions.example` says."""
        return self._questions.example(k)

    @functools.cached_property
    def _questions(self) -> Questions:
        found = find_files(self.argument, source="squad", endings=("json",))
        builder, notes = QuestionsBuilder(), list(found.notes)
        for number, (path, _) in enumerate(found.files):
            paragraphs = list(_paragraphs(path))
            questions = [question for _, asked in paragraphs for question in asked]
            if not questions:
                raise UserError(f"{path} holds no questions.")
            if not any("answers" in question or question.get("is_impossible") for question in questions):
                notes.append(f"{path.name} has no answers and is left out.")
                continue
            for context, asked in paragraphs:
                for question in asked:
                    name = str(question.get("id") or f"{path.name}:{len(builder) + 1}")
                    answers = _answers(question, path)
                    builder.add(question["question"], context, answers, name=name, file=number)
        return builder.build(found.files, notes)


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


def _answers(question: dict[str, Any], path: Path) -> list[tuple[Any, Any]]:
    """Returns text and start of each answer; a start that is missing would be a wrong file, not a guess."""
    if question.get("is_impossible"):
        return []
    try:
        return [(answer["text"], int(answer["answer_start"])) for answer in question.get("answers") or []]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: an answer of {question.get('id')} has no text or no answer_start.") from error
