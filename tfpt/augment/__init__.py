"""Training-only random operations, one file each, written `random_crop(pad=8)|flip`.

An op is a frozen dataclass; its fields are its arguments. It defines `example` (one example, before batching) or
`batch` (a whole batch, as mixup needs), never both. All its randomness comes from the seed it is given.
"""

import ast
import dataclasses
import re
from typing import Any, ClassVar

from tfpt import registry
from tfpt.errors import UserError


@dataclasses.dataclass(frozen=True)
class Op:
    """One random operation."""

    moves: ClassVar[frozenset[str]] = frozenset()
    """The features that it can move (`image`, `boxes`, `masks`, `waveform`, `text`). An op that changes geometry and
    cannot move a feature that is present is refused."""

    def example(self, features: dict[str, Any], seed: Any) -> dict[str, Any]:
        """Returns the features of one example, changed.

        Args:
            features: host outputs and targets of one example; `image` is `[height, width, 3]` uint8.
            seed: `[2]` int32, from run seed, epoch, example and the op's position.
        """
        raise NotImplementedError

    def batch(self, inputs: Any, targets: Any, seeds: Any) -> tuple[Any, Any]:
        """Returns inputs and targets of a batch, changed.

        Args:
            inputs: the task's inputs, `[batch, ...]`.
            targets: the task's targets, `[batch, ...]`.
            seeds: `[batch, 2]` int32.
        """
        raise NotImplementedError


_CALL = re.compile(r"([A-Za-z_][\w.]*)(?:\((.*)\))?", re.DOTALL)


def parse(text: str) -> tuple[Op, ...]:
    """Makes ops of `random_crop(pad=8)|flip`; arguments are numbers, words in quotes, true or false.

    Raises:
        UserError: an op or an argument is not there.
    """
    if text in ("", "none"):
        return ()
    return tuple(_parse_op(part.strip(), text) for part in text.split("|"))


def _parse_op(part: str, text: str) -> Op:
    found = _CALL.fullmatch(part)
    if not found:
        raise UserError(
            f"--input.augment={text}: {part!r} is not NAME or NAME(argument=value); write random_crop(pad=8)|flip."
        )
    op = registry.find("augment", found[1])
    try:
        call = ast.parse(f"f({found[2] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("more than one pair of brackets")
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("** is not allowed")
        made = op(*map(_value, call.args), **{str(keyword.arg): _value(keyword.value) for keyword in call.keywords})
    except (SyntaxError, TypeError, ValueError) as error:
        fields = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(op))
        raise UserError(
            f"--input.augment={text}: {part}: {error}; {found[1]} takes {fields or 'no arguments'}."
        ) from error
    assert isinstance(made, Op)
    return made


def _value(node: ast.expr) -> Any:
    words = {"true": True, "false": False}
    return words[node.id] if isinstance(node, ast.Name) and node.id in words else ast.literal_eval(node)
