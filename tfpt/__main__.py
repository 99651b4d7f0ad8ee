"""`tfpt PROGRAM ...`: runs one of the programs."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from tfpt import __version__, programs

STOPPED = 130
"""Exit code after Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program that the first argument names, or says which there are."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    known = programs.descriptions()
    if name in ("--version", "-V", "version"):
        print(f"tfpt {__version__}")
        return 0
    if name in ("--help", "-h", "help"):
        print(_overview(known))
        return 0
    if not name.startswith("-"):
        name = name.replace("-", "_")  # `tfpt find-lr` is the file find_lr.py
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        if name.startswith("-"):
            hint = f" The program comes first: tfpt train {name} ..."
        print(f"tfpt: {name}: there is no such program; there are {', '.join(known)}.{hint}", file=sys.stderr)
        return 2
    try:
        program = importlib.import_module(f"tfpt.{name}")
    except KeyboardInterrupt:  # from then on the program answers it
        print("tfpt: interrupted", file=sys.stderr)
        return STOPPED
    program.main(arguments[1:])
    return 0


def _overview(known: dict[str, str]) -> str:
    width = max(map(len, known))
    return "\n".join(
        [
            "tfpt: transfer learning for TensorFlow and Keras 3, from a folder of data to a served model.",
            "",
            "  tfpt PROGRAM [--flag=value ...]",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in known.items()),
            "",
            "`tfpt PROGRAM --help` explains a program and its flags.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
