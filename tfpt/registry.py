"""Finds components by name: the name is the file, CamelCase of it is the class.

`applications:MobileNetV2` names the class `Applications` in `tfpt/backbones/applications.py` with the argument
`MobileNetV2`. A dotted name (`my_package.my_task`) names the class `MyTask` in the module `my_package.my_task`: that is
how a component outside tfpt is used. There is no table to edit and no decorator to apply.
"""

import difflib
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from tfpt.errors import UserError

ROOMS = {
    "task": "tasks",
    "data": "data",
    "backbone": "backbones",
    "preprocessor": "preprocessors",
    "augment": "augment",
    "engine": "engines",
    "tracker": "trackers",
    "format": "formats",
    "compress": "compression",
}
"""Component kind -> the folder under tfpt/ whose files are its components."""

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def names(kind: str) -> list[str]:
    """Returns the sorted names of tfpt's own components of a kind (`"task"`, `"data"`, `"backbone"`, ...)."""
    folder = Path(__file__).parent / ROOMS[kind]
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def split_reference(text: str) -> tuple[str, str]:
    """Splits `name:argument` into its two halves; the argument may be empty and may hold further colons."""
    name, _, argument = text.partition(":")
    return name.strip(), argument.strip()


def find(kind: str, name: str) -> Any:
    """Returns the component class for a name.

    Args:
        kind: one of `ROOMS`.
        name: a file in the kind's room, or the dotted path of a module outside tfpt.

    Raises:
        UserError: no such component; the sentence lists what exists.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--{kind}={name}: write NAME or NAME:ARGUMENT; names are {_list(kind)}, or my_package.my_module."
        )
    if "." in name:
        return _find_outside(kind, name)
    if name not in names(kind):
        close = difflib.get_close_matches(name, names(kind), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"--{kind}={name}: there is no such {kind}; there are {_list(kind)}.{hint}")
    module = importlib.import_module(f"tfpt.{ROOMS[kind]}.{name}")
    return getattr(module, camel_case(name))


def camel_case(name: str) -> str:
    """Returns the class name for a file name: `image_classification` -> `ImageClassification`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _find_outside(kind: str, dotted: str) -> Any:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a `tfpt` script, unlike `python -m tfpt`, does not see the working folder
    try:
        module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"--{kind}={dotted}: there is no module {error.name}; a dotted name is a Python module that can be imported "
            "from the working folder or from what is installed."
        ) from error
    wanted = camel_case(dotted.rpartition(".")[2])
    found = getattr(module, wanted, None)
    if not isinstance(found, type):
        raise UserError(
            f"--{kind}={dotted}: the module has no class {wanted}; the class is the file's name in CamelCase."
        )
    return found


def _list(kind: str) -> str:
    return ", ".join(names(kind))
