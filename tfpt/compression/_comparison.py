"""What a smaller model costs: the metric, the size and the latency, before and after."""

import dataclasses
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt import formats
from tfpt.compression._subject import Subject
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.evaluation.scoring import Scores, score
from tfpt.formats import _fresh_process
from tfpt.formats._written import BATCH, MOST_EXAMPLES, largest_difference
from tfpt.serving.servable import INPUTS, Servable, unnamed

BATCH_SIZES = (1, 32)
THREADS = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One form of the model.

    Attributes:
        name: in the table.
        format: that reads it.
        file: the file, or the version folder.
        subject: the model that answers from it, with its data.
        tolerance: the largest difference of an output from the SavedModel's, beyond 1 as a share of it; None: any.
        difference: the largest that was found; None where nobody looked.
        seconds: that it took to make it; None where it was there.
    """

    name: str
    format: str
    file: Path
    subject: Subject
    tolerance: float | None = None
    difference: float | None = None
    seconds: float | None = None


def proven(variants: Sequence[Variant], *, way: str) -> list[Variant]:
    """Returns files with how far their outputs are from the SavedModel's, each read in a fresh process.

    Args:
        variants: files made of one bundle.
        way: `--compress`.

    Raises:
        UserError: one is further off than its tolerance.
    """
    subject = variants[0].subject
    _, examples = subject.measured
    inputs = next(subject.batches(examples[:MOST_EXAMPLES], batch_size=MOST_EXAMPLES))
    expected = _fresh_process.answers("saved_model", subject.bundle, inputs, batch_size=BATCH)
    made = []
    for variant in variants:
        found = _fresh_process.answers(variant.format, variant.file, inputs, batch_size=BATCH)
        off = largest_difference(expected, found)
        if variant.tolerance is not None and not off <= variant.tolerance:
            raise UserError(
                f"--compress={way}: {variant.name} does not answer what the SavedModel does, an output differs by {off:.2g} and "
                f"{variant.tolerance:g} is allowed; nothing was published."
            )
        made.append(dataclasses.replace(variant, difference=off))
    return made


def through_file(servable: Servable, format: str, file: Path, *, threads: int) -> Servable:
    """Returns a loaded servable whose outputs come from a file instead of the bundle.

    Args:
        servable: loaded from the bundle that the file was made of.
        format: of the file.
        file: the file.
        threads: CPU threads.
    """
    run = formats.find(format).open(file, threads=threads)
    specs = servable.outputs.loaded.signatures["outputs"].structured_outputs  # type: ignore[attr-defined]
    names = sorted(specs)

    def outputs(inputs: Any) -> Any:
        named = inputs if isinstance(inputs, dict) else {INPUTS: inputs}

        def of_file(*values: np.ndarray) -> list[np.ndarray]:
            found = run(dict(zip(named, values, strict=True)))
            return [found[name] for name in names]

        found = tf.numpy_function(of_file, list(named.values()), [specs[name].dtype for name in names])
        length = tf.shape(next(iter(named.values())))
        made = {}
        for name, value in zip(names, found, strict=True):
            shape = specs[name].shape
            if shape.rank > 1 and shape[1] is None:  # a file may have made texts longer
                value = value[:, : length[1]]
            made[name] = tf.ensure_shape(value, shape)
        return unnamed(made)

    return dataclasses.replace(servable, outputs=outputs)


def scores_of(variant: Variant, *, console: Console) -> Scores:
    """Scores a variant on the split that models are measured on."""
    subject = variant.subject
    name, examples = subject.measured
    return score(
        subject.servable, subject.prepared, examples, console=console, what=f"Measuring {variant.name} on {name}"
    )


def sizes_of(variant: Variant) -> dict[str, int]:
    """Returns the bytes of what is loaded to answer, and of the same in a zip file."""
    files = [variant.file] if variant.file.is_file() else list(_program_and_variables(variant.file))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return {"bytes": sum(file.stat().st_size for file in files), "zip_bytes": len(zipped.getvalue())}


def _program_and_variables(bundle: Path) -> Iterable[Path]:
    yield bundle / "saved_model.pb"
    yield from (
        file for folder in ("variables", "assets") for file in sorted((bundle / folder).rglob("*")) if file.is_file()
    )


def latencies_of(variant: Variant, *, seconds: float) -> list[dict[str, float | int]]:
    """Times a variant in fresh processes, from the host half's numbers to the outputs; what decodes and tokenises is left out.

    Returns:
        `threads`, `batch`, `runs`, `p50_ms`, `p99_ms` for each number of threads and each batch size.
    """
    subject = variant.subject
    _, examples = subject.measured
    inputs = next(subject.batches(examples[: max(BATCH_SIZES)], batch_size=max(BATCH_SIZES)))
    rows: list[dict[str, float | int]] = []
    for threads in THREADS:
        for batch in BATCH_SIZES:
            took = _fresh_process.times(
                variant.format, variant.file, inputs, batch_size=batch, threads=threads, seconds=seconds
            )
            p50, p99 = np.percentile(took, [50, 99]) * 1000
            rows.append(
                {"threads": threads, "batch": batch, "runs": len(took), "p50_ms": float(p50), "p99_ms": float(p99)}
            )
    return rows


def changed_share(before: Scores, after: Scores) -> float | None:
    """Returns the share of examples with another class, or other classes, than before; None where answers are no classes.

    What a threshold decides is looked at, not the highest score.
    """
    name = next((name for name in ("predicted", "chosen") if name in before.statistics), "")
    if not name or "scores" not in before.kept:
        return None
    other = before.statistics[name] != after.statistics[name]
    return float(np.mean(other.reshape(len(other), -1).any(axis=1)))
