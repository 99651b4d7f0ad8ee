"""From an exported model to the same in other file formats: no data, no training, the same proofs."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from tfpt import __version__, formats, registry, startup, writable
from tfpt.config import Export
from tfpt.console import Console
from tfpt.errors import UserError

EXAMPLES = 32
"""What the proofs answer: pictures and sentences that nobody owns."""
_TAKEN = frozenset(
    ("model", "trust", "export.formats", "export.version", "runtime.threads", "offline", "json", "debug", "flagfile")
)
"""Flags that say something of an exported model; the others are of its training, which is over."""


def check_given(given: Collection[str]) -> None:
    """Refuses flags that cannot change an exported model.

    Args:
        given: the names of all flags that were given.

    Raises:
        UserError: there is one.
    """
    if others := sorted(set(given) - _TAKEN):
        raise UserError(
            f"--{others[0]} does not go with tfpt export --model, which takes an exported model as it is; there are "
            "--export.formats and --export.version."
        )


def export_bundle(model: str, export: Export, *, trust: Sequence[str], threads: int, console: Console) -> Path:
    """Publishes the next version of an exported model: the same, with files in other formats beside it.

    Args:
        model: `saved_models/NAME`, whose newest version is taken, or `saved_models/NAME/VERSION`.
        export: the formats and the version.
        trust: packages outside tfpt whose components may be imported.
        threads: CPU threads; 0: all.
        console: talks to the user.

    Returns:
        The new version folder. Files in other formats that the version has already are in it, too.

    Raises:
        UserError: there is no such model, or it cannot be written in a format.
        RuntimeError: the copy answers otherwise; nothing is published.
    """
    files = [name for name in export.formats if formats.find(name).file]
    if not files:
        known = [name for name in registry.names("format") if formats.find(name).file and formats.find(name).of_bundle]
        raise UserError(f"--model={model} is a SavedModel already; write --export.formats={','.join(known)}.")
    formats.check_of_bundle(files)
    formats.check_installed(files)
    startup.start_tensorflow(threads)
    from tfpt.formats import _written
    from tfpt.preprocessors import distinct
    from tfpt.serving import bundle, parity, synthetic
    from tfpt.serving.servable import EXTRA, Servable, is_version, newest_version

    source = newest_version(Path(model)).resolve()
    if not is_version(source.name):
        raise UserError(
            f"--model={model}: {source.name} is no version number, so there is no next; give a folder saved_models/NAME that "
            "holds versions."
        )
    writable.check_folder(source.parent, flag="--model")
    servable = Servable.load(source, trust=trust)
    preprocessors = distinct(servable.preprocessors)
    raw = synthetic.examples(preprocessors, EXAMPLES)
    answers = servable.predict({name: [one[name] for one in raw] for name in raw[0]}, batch_size=len(raw))
    with bundle.publishing(source.parent, export.version) as (partial, final):
        shutil.copytree(source, partial, dirs_exist_ok=True)
        console.say(f"Proving the copy of version {source.name} equal in a fresh process ...")
        libraries = sorted({library for p in preprocessors for library in p.libraries})
        found = parity.prove(
            partial, raw, answers, batch_size=len(raw), libraries=libraries, input_names=servable.input_names
        )
        if not found.passed:
            raise RuntimeError(f"the copy does not answer as {source} does: {found.reason}; it was not published")
        described = _written.write(files, servable, partial, raw, console=console)["formats"]
        lines = [f"- {one['file']}: {one['bytes'] / 1e6:.1f} MB" for one in described.values()]
        with (partial / EXTRA / "model_card.md").open("a", encoding="utf-8") as card:
            card.write(
                f"\n## Other formats\n\nVersion {source.name}, with files that tfpt {__version__} wrote of it:\n\n"
                + "".join(f"{line}\n" for line in lines)
            )
    console.say(
        f"Parity passed: {found.examples} synthetic examples answered by the copy in a fresh process, largest difference "
        f"{found.max_difference:.1e}."
    )
    return final
