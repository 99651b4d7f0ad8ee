"""Looks at the data and writes a flag file for it, with a reason beside each setting.

`tfpt train --flagfile=FILE` runs it as it is. Settings that are given are taken over. Nothing is overwritten.
"""

import dataclasses
import functools
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfpt import app, config, flagfile, flags, record
from tfpt.atomic import atomic_text
from tfpt.config import setting
from tfpt.console import Console
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.suggest import Suggestion

PROGRAM = "Look at the data and write a commented flag file."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `new`."""

    output: str = setting("", "The file that is written; default: named after the data.")


GROUPS = {"new": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    app.run(
        functools.partial(_new, arguments),
        program="new",
        about=__doc__ or "",
        example='tfpt new --data=folder:"my photos" --new.output=mine.flags',
        groups=GROUPS,
        need_experiment=False,
        argv=arguments,
    )


def _new(argv: Sequence[str], parsed: flags.Parsed, console: Console) -> None:
    if parsed.data is None:
        raise UserError("--data is missing: write --data=folder:PATH, or another of `tfpt list data`.")
    path = Path(parsed.options["new"].output or f"{_stem(parsed.data)}.flags")
    if path.exists():
        raise UserError(f"{path} exists, and nothing is overwritten; name another file with --new.output=FILE.")
    if not path.parent.is_dir():
        raise UserError(f"--new.output={path}: there is no folder {path.parent}.")
    source = parsed.data.make()
    source.info()  # a mistake in it is told before TensorFlow loads
    app.start_tensorflow(parsed.options["runtime"].threads)
    from tfpt.first_look import look
    from tfpt.suggest import suggest

    seen = look(source, parsed.options["input"])
    suggestions = suggest(seen)
    extra = [f"--{s.flag}={s.value}" for s in suggestions if s.flag and s.chosen and s.flag not in parsed.given]
    experiment = flags.parse([*argv, *extra], program="new", groups=GROUPS).experiment
    assert experiment is not None  # the suggestions name task and backbone
    rows = dict(record.to_rows(experiment))
    given = {flag: rows[flag] for flag in rows if flag in parsed.given}
    with atomic_text(path, errors="surrogatepass") as file:
        file.writelines(f"{line}\n" for line in _lines(path, given, suggestions))
    for note in seen.notes:
        console.say(note)
    counts = ", ".join(f"{count} {name}" for name, count in seen.examples.items())
    console.say(f"{sum(seen.examples.values())} examples of {seen.modality} ({counts}).")
    console.say(f"{path} is written: read it, then run tfpt train --flagfile={path}")


def _stem(data: config.Component) -> str:
    last = Path(data.argument).stem if data.argument else ""
    return re.sub(r"[^\w-]+", "_", last or data.name.rpartition(".")[2]).strip("_") or "mine"


def _lines(path: Path, given: Mapping[str, str], suggestions: Sequence["Suggestion"]) -> Iterator[str]:
    yield "# Made by `tfpt new`. Change what you know better; `tfpt train --help` explains every flag."
    yield "#"
    yield f"#   tfpt train --flagfile={_one_line(str(path))}"
    suggested = {suggestion.flag for suggestion in suggestions}
    for flag, value in given.items():
        if flag not in suggested:
            yield f"--{flag}={flagfile.escape(value)}"
    for suggestion in suggestions:
        value = given.get(suggestion.flag, suggestion.value)
        own = suggestion.flag in given and value != suggestion.value
        why = "Given on the command line." if own else suggestion.why
        if why:
            yield from ("", *textwrap.wrap(_one_line(why), 118, initial_indent="# ", subsequent_indent="# "))
        if suggestion.flag:
            mark = "" if suggestion.chosen or suggestion.flag in given else "# "
            yield f"{mark}--{suggestion.flag}={flagfile.escape(value)}"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


if __name__ == "__main__":
    main()
