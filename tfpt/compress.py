"""Makes an exported model smaller or faster, and says what that costs: the metric before and after, sizes and latencies.

--compress=quantize:int8 writes a LiteRT file, calibrated on the training split. --compress=prune:0.5 trains half of the weights away, and
--compress=distill lets a smaller backbone learn from the model; both give a new exported model. Nothing is published that
loses more than --compress.max_drop. The data is the model's own; give --data if it has moved.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tfpt import app, flags, registry, writable
from tfpt.compression import Compression, Options
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.errors import GateError, UserError

if TYPE_CHECKING:
    from tfpt.compression._subject import Subject

PROGRAM = "Make an exported model smaller: quantise, prune or distill it."
GROUPS = {"compress": Options}
"""Its own flag groups, which the other programs accept in a flag file."""
SPLITTING = frozenset(f"input.{name}" for name in ("split", "split_seed", "splits", "group", "folds", "fold", "limit"))
"""Flags that say which examples are test."""
ROUNDING = 1e-9
"""What a bound gives way, so that an equal metric meets it."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _compress,
        program="compress",
        about=__doc__ or "",
        example="tfpt compress --model=saved_models/mine --compress=quantize:int8",
        groups=GROUPS,
        need_experiment=False,
        argv=argv,
    )


def _compress(parsed: flags.Parsed, console: Console) -> None:
    ways = ", ".join(registry.names("compress"))
    if not parsed.model or not parsed.compress:
        raise UserError(f"Write --model=saved_models/NAME and --compress=WAY; ways are {ways}, such as quantize:int8.")
    name, argument = registry.split_reference(parsed.compress)
    way: Compression = registry.find("compress", name)(argument, parsed.options["compress"])
    way.check_installed()
    app.start_tensorflow(parsed.options["runtime"].threads)
    from tfpt.compression import _subject
    from tfpt.evaluation.results import as_json

    subject = _subject.load(parsed.model, data=parsed.data, trust=parsed.trust, offline=parsed.offline, console=console)
    writable.check_folder(_folder(way, subject, parsed), flag="--compress.output")
    make = _trained if way.trains else _written
    results = make(way, subject, parsed, console)
    if parsed.json:
        print(as_json(results))


def _folder(way: Compression, subject: "Subject", parsed: flags.Parsed) -> Path:
    """Returns where the result goes, which holds a folder for each version."""
    name = f"{subject.name}-{parsed.compress.replace(':', '-')}"
    return Path(way.options.output or Path("compressed") / name)


def _written(way: Compression, subject: "Subject", parsed: flags.Parsed, console: Console) -> dict[str, Any]:
    """Makes, measures and publishes a file."""
    from tfpt import formats
    from tfpt.compression import _results
    from tfpt.compression._comparison import Variant, proven, through_file
    from tfpt.serving import bundle

    form = formats.find(way.format)

    def variant(name: str, file: Path, tolerance: float | None, write: Callable[[Path], None]) -> Variant:
        started = time.monotonic()
        write(file)
        seconds = time.monotonic() - started
        servable = through_file(subject.servable, way.format, file, threads=subject.prepared.threads)
        return Variant(
            name=f"{way.format} {name}",
            format=way.format,
            file=file,
            subject=dataclasses.replace(subject, servable=servable),
            tolerance=tolerance,
            seconds=seconds,
        )

    def plain(file: Path) -> None:
        form.write(subject.servable, subject.bundle, file)

    def smaller(file: Path) -> None:
        way.write(subject, file, console=console)

    with tempfile.TemporaryDirectory(prefix="tfpt-compress-") as scratch:
        before = Variant(name="SavedModel", format="saved_model", file=subject.bundle, subject=subject)
        unchanged = variant("float32", Path(scratch) / form.file, form.tolerance, plain)
        with bundle.publishing(_folder(way, subject, parsed), "next") as (partial, final):
            small = variant(way.argument, partial / form.file, way.tolerance, smaller)
            variants = [before, *proven([unchanged, small], way=parsed.compress)]
            results = _results.compare(parsed.compress, way.options, variants, console=console)
            _results.tell(results, console)
            _results.check_drop(results)
            _results.write(results, variants[-1], partial)
    console.say(f"model   {final / form.file}")
    return results


def _trained(way: Compression, subject: "Subject", parsed: flags.Parsed, console: Console) -> dict[str, Any]:
    """Trains another model, which is published if it is good enough, and compares the two."""
    from tfpt import run
    from tfpt.atomic import atomic_text
    from tfpt.compression import _results
    from tfpt.compression._comparison import Variant, scores_of
    from tfpt.evaluation.measure import measure
    from tfpt.evaluation.results import as_json
    from tfpt.serving.servable import EXTRA, Servable
    from tfpt.trained_run import numbers

    before = Variant(name="before", format="saved_model", file=subject.bundle, subject=subject)
    scores = scores_of(before, console=console)
    metrics = measure(subject.servable, scores)
    _results.check_learned(subject, scores, metrics)
    experiment = _published(way, subject, parsed, metrics)
    folder = Path(experiment.output.run_dir)
    _same_way(folder, {"compress": parsed.compress, "model": _fingerprint(subject), **dataclasses.asdict(way.options)})
    try:
        made = run.fit_experiment(
            experiment,
            console=console,
            offline=parsed.offline,
            adapt=lambda setting: way.adapt(setting, subject, console=console),
        )
    except GateError as error:
        raise GateError(f"--compress.max_drop={way.options.max_drop:g}: {error}") from error
    if not len(subject.splits.test):
        after_training = numbers(made.metrics["validation"])
        _results.check_kept(subject, numbers(metrics), after_training, max_drop=way.options.max_drop)
        if made.model_folder is None:
            made = run.export_experiment(experiment, console=console, offline=parsed.offline)
    assert made.model_folder is not None
    smaller = Servable.load(made.model_folder, trust=parsed.trust)
    after = Variant(
        name=parsed.compress, format="saved_model", file=made.model_folder, subject=subject.answered_by(smaller)
    )
    results = _results.compare(parsed.compress, way.options, [before, after], console=console)
    results |= way.details(smaller)
    with atomic_text(made.model_folder / EXTRA / "compression.json", errors="surrogateescape") as file:
        file.write(as_json(results))
    _results.tell(results, console)
    console.say(f"report  {made.folder / 'report.html'}")
    console.say(f"model   {made.model_folder}")
    return results


def _published(way: Compression, subject: "Subject", parsed: flags.Parsed, metrics: Mapping[str, Any]) -> Experiment:
    """Returns the run that makes the other model, which is published if it is not too much worse.

    A run asks its test split before it publishes. Where there is none, it does not publish: validation is asked afterwards.
    """
    primary = subject.servable.task.primary_of(subject.servable.state)
    value, drop = metrics[primary.name]["value"], way.options.max_drop
    bound = (
        f"{primary.name}>={value - drop - ROUNDING!r}"
        if primary.higher_is_better
        else f"{primary.name}<={value + drop + ROUNDING!r}"
    )
    experiment = _with_given(way.experiment(subject), parsed)
    folder = _folder(way, subject, parsed)
    tested = bool(len(subject.splits.test))
    return dataclasses.replace(
        experiment,
        runtime=parsed.options["runtime"],
        output=dataclasses.replace(
            experiment.output,
            name=folder.name,
            run_dir=str(Path("runs") / folder.name),
            model_dir=str(folder),
            if_exists="resume",
        ),
        export=dataclasses.replace(experiment.export, require=bound if tested else "", version="next", publish=tested),
    )


def _with_given(experiment: Experiment, parsed: flags.Parsed) -> Experiment:
    """Returns the experiment with those of its settings that the user gives now, such as --train.batch_size.

    Raises:
        UserError: one would give another test split than the model was measured on.
    """
    if moved := sorted(flag for flag in parsed.given if flag in SPLITTING):
        raise UserError(
            f"--{moved[0]} does not go with tfpt compress: before and after are measured on the model's own test split."
        )
    changed = {}
    for group in ("input", "train", "optim"):
        given = {flag.partition(".")[2] for flag in parsed.given if flag.startswith(f"{group}.")}
        values = {name: getattr(parsed.options[group], name) for name in given}
        changed[group] = dataclasses.replace(getattr(experiment, group), **values)
    return dataclasses.replace(experiment, **changed)


def _fingerprint(subject: "Subject") -> str:
    """Returns what tells a model from another of the same name: a student's own flags do not say who taught it."""
    import hashlib

    from tfpt.serving.servable import DESCRIPTION, EXTRA

    digest = hashlib.sha256((subject.bundle / EXTRA / DESCRIPTION).read_bytes())
    for file in sorted((subject.bundle / "variables").iterdir()):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:32]


def _same_way(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with a run that was begun with other settings of the compression, or of another model.

    Raises:
        UserError: it was.
    """
    from tfpt.atomic import atomic_text

    file = folder / "compress.json"
    settings = {
        name: value for name, value in settings.items() if name not in ("max_drop", "latency_seconds", "output")
    }
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != settings:
        raise UserError(
            f"{folder} holds a run with other settings of --compress or of another --model; give another --compress.output, whose name the run takes."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_text(file) as opened:
        json.dump(settings, opened, indent=1)


if __name__ == "__main__":
    main()
