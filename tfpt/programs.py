"""The programs of tfpt: the files directly under tfpt/ that hold a line `PROGRAM = "what it does"`."""

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path


def descriptions() -> dict[str, str]:
    """Returns program -> what it does, sorted by name; no program is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text("utf-8")
        if "\nPROGRAM = " not in text:
            continue
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "PROGRAM":
                found[path.stem] = str(ast.literal_eval(statement.value))
    return found


def groups(program: str) -> Mapping[str, type]:
    """Returns a program's own flag groups: its constant `GROUPS`, group -> config dataclass."""
    return getattr(importlib.import_module(f"tfpt.{program}"), "GROUPS", {})
