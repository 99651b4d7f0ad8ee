"""A setting: one field of a config dataclass, as text, as a value from Python, and in error sentences."""

import dataclasses
import difflib
import math
import operator
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from tfpt.errors import UserError

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a config dataclass.

    Attributes:
        group: the flag group (`train`, `backbone`, `backbone.left`); empty for a flag without a group.
        name: the field.
        members: what its type allows: `bool`, `int`, `float`, `str`, `None`, `tuple[...]`, and words (from `Literal`).
        default: the value when nothing is given.
        help: for `--help`.
        choices: the words that are allowed, where it is a fixed list.
        hidden: left out of `--help`.
    """

    group: str
    name: str
    members: tuple[Any, ...]
    default: Any
    help: str = ""
    choices: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def flag(self) -> str:
        """The name behind `--`."""
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def is_switch(self) -> bool:
        """Whether `--flag` alone means true."""
        return self.members == (bool,)

    def parse(self, text: str) -> Any:
        """Turns the text of a flag into its value.

        Raises:
            ValueError: it is not allowed; the sentence continues `--flag=text`.
        """
        if text in self.members:
            return text
        if None in self.members and text == "none":
            return None
        for member in self.members:
            if member is None or isinstance(member, str):
                continue
            try:
                return self._checked(_parse_as(member, text))
            except _OtherTypeError:
                continue
        raise ValueError(self._complaint(text))

    def coerce(self, value: Any) -> Any:
        """Checks a value that was given in Python; numpy numbers, lists, paths and flag texts are accepted.

        Raises:
            ValueError: it is not allowed; the sentence continues `flag=value`.
        """
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            return self.parse(value)
        if value is None and None in self.members:
            return None
        for member in self.members:
            if member is None or isinstance(member, str):
                continue
            try:
                return self._checked(_convert_to(member, value))
            except _OtherTypeError:
                continue
        raise ValueError(self._complaint(value))

    def text(self, value: Any) -> str:
        """Returns the text that `parse` turns into this value."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        return str(value)

    def _checked(self, value: Any) -> Any:
        if isinstance(value, str):
            if self.choices and value not in self.choices and value != self.default:
                raise ValueError(self._complaint(value))
            check_text(value)
        return value

    def _complaint(self, given: Any) -> str:
        words = list(self.choices) or [member for member in self.members if isinstance(member, str)]
        kinds = [] if self.choices else [_describe(m) for m in self.members if m is not None and not isinstance(m, str)]
        allowed = [*kinds, *words, *(["none"] if None in self.members else [])]
        sentence = "is not one of " + ", ".join(allowed) if len(allowed) > 2 else "is not " + " or ".join(allowed)
        close = difflib.get_close_matches(str(given), words, n=1)
        return f"{sentence}; did you mean {close[0]}?" if close else sentence


def settings_of(group: str, config: type | None) -> list[Setting]:
    """Returns the settings of a config dataclass, in its order; none for None.

    Raises:
        TypeError: a field has no default, or a type that no flag can have.
    """
    if config is None:
        return []
    hints = typing.get_type_hints(config)
    found = []
    for field in dataclasses.fields(config):
        where = f"{config.__qualname__}.{field.name}"
        if field.default is dataclasses.MISSING:
            raise TypeError(f"{where} needs an immutable default: every setting has one")
        members = _members(hints[field.name], where)
        found.append(
            Setting(
                group=group,
                name=field.name,
                members=members,
                default=field.default,
                help=field.metadata.get("help", ""),
                choices=tuple(field.metadata.get("choices", ())),
                hidden=field.metadata.get("hidden", False),
            )
        )
    return found


def build(
    config: type,
    group: str,
    values: Mapping[str, Any],
    *,
    prefix: str = "--",
    sources: Mapping[str, str] = types.MappingProxyType({}),
) -> Any:
    """Makes a config dataclass; what its `__post_init__` refuses becomes a sentence about the flag.

    Args:
        config: the dataclass.
        group: its flag group.
        values: field -> value, for the fields that were given.
        prefix: what stands before a flag's name in a sentence; empty for Python.
        sources: field -> where it was given (`mine.flags:7`, `command line`).

    Raises:
        UserError: a value is out of range.
    """
    try:
        return config(**values)
    except ValueError as error:
        name, colon, sentence = str(error).partition(": ")
        settings = {setting.name: setting for setting in settings_of(group, config)}
        if not colon or name not in settings:
            raise UserError(f"{prefix}{group}: {error}".rstrip(".") + ".") from error
        setting = settings[name]
        text = setting.text(values.get(name, setting.default))
        raise refusal(setting.flag, text, sentence, prefix=prefix, source=sources.get(name, "")) from error


def refusal(flag: str, text: str, sentence: str, *, prefix: str = "--", source: str = "") -> UserError:
    """Returns the error for a value that is not allowed: `mine.flags:7: --optim.momentum=2 is not below 1.`."""
    place = f"{source}: " if source else ""
    end = "" if sentence.endswith((".", "?")) else "."
    if sentence.startswith(f"{text} "):
        return UserError(f"{place}{prefix}{flag}={sentence}{end}")
    joint = " " if sentence.startswith("is not ") else ": "
    return UserError(f"{place}{prefix}{flag}={text}{joint}{sentence}{end}")


def check_text(text: str) -> None:
    """Refuses a text that a line of a flag file cannot hold.

    Raises:
        ValueError: it starts or ends with a space, or holds a line break.
    """
    if text != text.strip(" \t"):
        raise ValueError("a value cannot start or end with a space (behind a folder's name that does, write /)")
    if any(character in text for character in "\n\r\0"):
        raise ValueError("a value cannot hold a line break")


class _OtherTypeError(Exception):
    """The value is of another type; the next one that is allowed is tried."""


def _members(annotation: Any, where: str) -> tuple[Any, ...]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        members = tuple(member for argument in arguments for member in _members(argument, where))
        if None in members and str in members:
            raise TypeError(f"{where}: write str with the default '' instead of str | None")
        return members
    if origin is typing.Literal and all(isinstance(argument, str) for argument in arguments):
        return arguments
    if annotation in (None, types.NoneType):
        return (None,)
    if annotation in (bool, int, float, str) or (
        origin is tuple and len(arguments) == 2 and arguments[0] in (int, float, str) and arguments[1] is Ellipsis
    ):
        return (annotation,)
    raise TypeError(f"{where}: no flag can have the type {annotation}")


def _parse_as(member: Any, text: str) -> Any:
    if member is str:
        return text
    if member is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise _OtherTypeError
    if typing.get_origin(member) is tuple:
        element = typing.get_args(member)[0]
        return tuple(_parse_as(element, part.strip()) for part in text.split(",")) if text else ()
    try:
        value = member(text)
    except ValueError as error:
        raise _OtherTypeError from error
    return _finite(value)


def _convert_to(member: Any, value: Any) -> Any:
    if typing.get_origin(member) is tuple:
        element = typing.get_args(member)[0]
        if not isinstance(value, list | tuple):
            raise _OtherTypeError
        return tuple(_convert_to(element, part) for part in value)
    if member is str:
        if not isinstance(value, str):
            raise _OtherTypeError
        if "," in value:  # only reached inside a tuple, whose text has commas between its elements
            raise ValueError("a word in a list cannot hold a comma")
        return value
    truth = isinstance(value, bool) or type(value).__name__ == "bool_"
    if (member is bool) != truth:
        raise _OtherTypeError
    conversions: dict[Any, Callable[[Any], Any]] = {bool: bool, int: operator.index, float: float}
    try:
        return _finite(conversions[member](value))
    except (TypeError, ValueError) as error:
        raise _OtherTypeError from error


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise _OtherTypeError
    return value


def _describe(member: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if member in names:
        return names[member]
    return {
        int: "whole numbers with commas between them",
        float: "numbers with commas between them",
        str: "words with commas between them",
    }[typing.get_args(member)[0]]
