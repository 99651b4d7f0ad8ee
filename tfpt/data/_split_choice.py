"""`--data.split`: which parts of a data set with splits of its own are used, and as what."""

from collections.abc import Sequence
from pathlib import Path

from tfpt.data._files import Files, split_of
from tfpt.errors import UserError

HELP = (
    "Which of its splits are used. auto: those called train, validation (dev, val) and test; train[:800]: this part, which is then "
    "split by --input.split; train=train[:80%],validation=train[80%:],test=test: each as what it is."
)
_ORDER = ("train", "", "validation", "test")


def check_choice(choice: Sequence[str]) -> str:
    """Returns what is wrong with a choice; nothing when it is right."""
    roles = [part.partition("=")[0].strip() for part in choice if "=" in part]
    unknown = [role for role in roles if role not in ("train", "validation", "test")]
    if unknown:
        return f"split: {unknown[0]} is not train, validation or test"
    if not all(part.rpartition("=")[2].strip() for part in choice) or not choice:
        return "split: a part is empty; write auto, train[:800], or train=train,test=test"
    if len(set(roles)) < len(roles) or (len(choice) > 1 and len(roles) < len(choice)):
        return f"split: {','.join(choice)} does not say once for each part what it is; write train=...,test=..."
    return ""


def chosen_splits(choice: Sequence[str]) -> list[tuple[str, str]]:
    """Returns what to read, such as `train[:80%]`, and as which split (`""` for one that is yet to be split)."""
    pairs = [part.rpartition("=") for part in choice]
    return [(expression.strip(), role.strip()) for role, _, expression in pairs]


def named_splits(names: Sequence[str], *, root: Path, where: str) -> Files:
    """Returns the splits of a data set by what their names say; those that say none are left out, unless there is only one.

    Args:
        names: `train`, `validation_matched`, `unsupervised`, ...
        root: what the names are below.
        where: for messages.

    Raises:
        UserError: there is none, or there are several and none is train, validation or test.
    """
    splits = {name: split_of(name) for name in names}
    used = [name for name in names if splits[name]] or list(names)
    if not used or (len(used) > 1 and not any(splits.values())):
        raise UserError(f"{where} has the splits {', '.join(names) or '(none)'}; none is train, validation or test.")
    used.sort(key=lambda name: (_ORDER.index(splits[name]), name))
    ignored = [name for name in names if name not in used]
    notes = (f"Ignored, because their names say no split: {', '.join(ignored)}.",) if ignored else ()
    return Files(files=tuple((root / name, splits[name]) for name in used), notes=notes)
