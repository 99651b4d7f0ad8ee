"""Tables that may have columns with questions, contexts and answers."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data import Index, Info
from tfpt.data._columns import AUTO, NONE, ColumnsConfig
from tfpt.data._questions import Questions, QuestionsBuilder
from tfpt.data._table import TableFile
from tfpt.data._table_source import TableSource
from tfpt.errors import UserError

_ROLES = ("question", "context", "answers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionColumnsConfig(ColumnsConfig):
    """Flags of the group `data`."""

    question: str = setting(
        "auto",
        "Column of the question, for question answering. auto: where there are columns called question, context and answers.",
    )
    context: str = setting("auto", "Column of the text that the answer is a part of; none: these are no questions.")
    answers: str = setting(
        "auto",
        "Column of the answers: a text, a list of texts, or with places in characters {text: [...], answer_start: [...]} as the "
        "datasets library has it; in a table of texts the latter as JSON. A text without a place is looked for in the context; empty: "
        "there is no answer.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [role for role in _ROLES if getattr(self, role) not in (AUTO, NONE)]
        check(NONE not in (self.question, self.answers), "question, answers: none is for --data.context")
        check(
            not given or self.text in (AUTO, NONE),
            f"text: {self.text} is given, and --data.{given[0] if given else ''} too, which is for questions; leave one out",
        )
        check(not (given and self.context == NONE), f"context: none, but --data.{given[0] if given else ''} is given")

    def named(self) -> list[str]:
        """Returns the columns that were given by name, not by number."""
        given = (getattr(self, role) for role in _ROLES)
        return super().named() + [name for name in given if name not in (AUTO, NONE) and not name.isdecimal()]


class QuestionTableSource(TableSource):
    """A table of texts, pairs or pictures with labels; with a column of contexts, one of questions with answers."""

    Config: type[ColumnsConfig] = QuestionColumnsConfig

    def info(self) -> Info:
        """Returns the features that the columns give, the classes, and what `auto` chose."""
        return self._questions.info(self.origin()) if self._questions else super().info()

    def index(self) -> Index:
        """Returns one row an example, named by file and line: `train.tsv:17`."""
        return self._questions.index() if self._questions else super().index()

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each row's texts and of its picture's content, never of its label or answer."""
        return self._questions.content if self._questions else super().digests()

    def example(self, k: Any) -> dict[str, Any]:
        """Returns row k as `csv` does, or question k as `squad` does."""
        return self._questions.example(k) if self._questions else super().example(k)

    def open_texts(self, path: Path) -> TableFile:
        """Opens one file whose cells are texts, numbers, and lists of these.

        Raises:
            UserError: it cannot be read.
        """
        return self.open(path)

    @functools.cached_property
    def _questions(self) -> Questions | None:
        config = self.config
        if config.context == NONE or config.text not in (AUTO, NONE):
            return None
        given = [role for role in _ROLES if getattr(config, role) != AUTO]
        found = self.find()
        builder = QuestionsBuilder()
        for number, (path, _) in enumerate(found.files):
            file = self.open_texts(path)
            wanted = [role if getattr(config, role) == AUTO else getattr(config, role) for role in _ROLES]
            if absent := [(role, name) for role, name in zip(_ROLES, wanted, strict=True) if name not in file.columns]:
                if not given and not len(builder):
                    return None
                role, name = absent[0]
                raise UserError(
                    f"{path}: --data.{role}={name} is not a column; columns are {', '.join(map(str, file.columns))}."
                )
            for line, (question, context, answers) in file.rows(wanted):
                where = f"{path}:{line}: --data"
                for role, text in (("question", question), ("context", context)):
                    if not isinstance(text, str) or not text.strip():
                        raise UserError(f"{where}.{role}={wanted[_ROLES.index(role)]} is not a text.")
                spans = _spans(answers, f"{where}.answers={wanted[2]}")
                builder.add(question, context, spans, name=f"{path.name}:{line}", file=number)
        chose = () if given else ("columns question, context and answers are read as questions with answers.",)
        return builder.build(found.files, (*found.notes, *chose))


def _spans(cell: Any, where: str) -> list[tuple[str, int | None]]:
    """Returns text and place of each answer; no place where it is not given.

    Raises:
        UserError: the cell is none of the forms that `--data.answers` names.
    """
    if isinstance(cell, str) and cell.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):  # an answer may begin with a bracket
            cell = json.loads(cell)
    if cell is None or cell == "":
        return []
    if isinstance(cell, str):
        return [(cell, None)]
    with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):
        if isinstance(cell, dict):
            texts, starts = cell["text"], cell["answer_start"]
            if isinstance(texts, str):
                texts, starts = [texts], [starts]
            return [(str(text), int(start)) for text, start in zip(texts, starts, strict=True)]
        if isinstance(cell, list):
            return [span for part in cell for span in _spans(part, where)]
    raise UserError(
        f'{where} holds {str(cell)[:60]!r}; a text, a list of texts or {{"text": [...], "answer_start": [...]}} is wanted.'
    )
