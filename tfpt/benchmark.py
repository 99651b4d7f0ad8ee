"""Measures how fast an exported model starts and answers, and where the time goes.

A fresh process loads the bundle and asks it for the first time; then requests of several sizes go the way of a REST
request, without the network, on each installed engine. The batching that TensorFlow Serving should use follows from that.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tfpt import app, flags, writable
from tfpt.config import check, setting
from tfpt.console import Console
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.server.latency import Latency, Start
    from tfpt.serving.servable import Servable

PROGRAM = "Measure how fast an exported model starts and answers."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `benchmark`."""

    batch_sizes: tuple[int, ...] = setting((1, 2, 4, 8, 16, 32), "Examples of a request, several with commas.")
    seconds: float = setting(2.0, "How long each size is measured on each engine; at least 20 requests are.")
    picture: tuple[int, ...] = setting((500, 375), "Width and height of the synthetic pictures.")
    words: int = setting(20, "Words of the synthetic texts, on average.")
    examples: int = setting(64, "How many different examples there are; with --data the first ones of it.")
    output: str = setting("", "Folder for results.json, latency.svg and batching.config; empty: the table only.")

    def __post_init__(self) -> None:
        check(bool(self.batch_sizes), "batch_sizes: there is none; write 1,8,32")
        for size in self.batch_sizes:
            check(1 <= size <= 1024, f"batch_sizes: {size} is not between 1 and 1024")
        check(self.seconds > 0, f"seconds: {self.seconds} is not positive")
        check(
            len(self.picture) == 2 and all(1 <= side <= 7000 for side in self.picture),
            f"picture: {','.join(map(str, self.picture))} is not a width and a height of 1 to 7000 pixels, such as 500,375",
        )
        for name in ("words", "examples"):
            check(getattr(self, name) >= 1, f"{name}: {getattr(self, name)} is not at least 1")


GROUPS = {"benchmark": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _benchmark,
        program="benchmark",
        about=__doc__ or "",
        example="tfpt benchmark --model=saved_models/mine",
        groups=GROUPS,
        need_experiment=False,
        argv=argv,
    )


def _benchmark(parsed: flags.Parsed, console: Console) -> None:
    options = parsed.options["benchmark"]
    model = parsed.model or (parsed.experiment.output.model_dir if parsed.experiment else "")
    if not model:
        raise UserError("Write --model=saved_models/NAME, the folder that `tfpt train` exported to.")
    output = Path(options.output) if options.output else None
    if output:
        writable.check_folder(output, flag="--benchmark.output")
        output.mkdir(parents=True, exist_ok=True)
    app.start_tensorflow(parsed.options["runtime"].threads)
    from tfpt.evaluation.environment import environment
    from tfpt.server import latency
    from tfpt.serving.servable import Servable

    servable = Servable.load(model, trust=parsed.trust)
    raw = _examples(parsed, servable, console)
    console.say("Starting a fresh process ...")
    started = latency.start(servable, raw[0])
    rows = _measure(parsed, servable, raw, console)
    _say(started, rows, console)
    results = {
        "model": str(servable.folder),
        "inputs": str(parsed.data) if parsed.data else "synthetic",
        "environment": environment(),
        "start": dataclasses.asdict(started),
        "requests": [dataclasses.asdict(row) for row in rows],
    }
    if output:
        _write(output, results, rows)
        console.say(f"results.json, latency.svg and batching.config are in {output}.")
    if parsed.json:
        print(json.dumps(results))


def _examples(parsed: flags.Parsed, servable: "Servable", console: Console) -> list[dict[str, bytes]]:
    """Returns raw examples by input name: those of the data that can be answered where it is given, else synthetic ones."""
    from tfpt.preprocessors import distinct
    from tfpt.serving import answers, asked, synthetic

    options, preprocessors = parsed.options["benchmark"], distinct(servable.preprocessors)
    if parsed.data is None:
        made: Any = synthetic.examples(preprocessors, options.examples, picture=options.picture, words=options.words)
    else:
        source = parsed.data.make()
        info = source.info()
        missing = [feature for feature in servable.features() if feature not in info.features]
        if missing:
            raise UserError(f"--data={parsed.data} has no {missing[0]}, which the model takes.")
        if not info.size:
            raise UserError(f"--data={parsed.data} holds no example.")
        first = list(itertools.islice(asked.of_source(source, servable.features()), options.examples))
        found = answers.answer_batch(servable, first)
        made = [raw for (_, raw), answer in zip(first, found, strict=True) if not answer.error]
        if not made:
            raise UserError(f"--data={parsed.data}: none of its first {len(first)} examples can be answered.")
        if len(made) < len(first):
            console.warn(
                f"{len(first) - len(made)} of the first {len(first)} examples cannot be answered: they are left out."
            )
    return [servable.by_input(one) for one in made]


def _measure(
    parsed: flags.Parsed, servable: "Servable", raw: Sequence[dict[str, bytes]], console: Console
) -> list["Latency"]:
    """Measures each engine that may run; TensorFlow first."""
    from tfpt.engines._choice import candidates, served_precision
    from tfpt.server import latency, options
    from tfpt.server.engine import TENSORFLOW, put_on_engine
    from tfpt.server.model import Model
    from tfpt.server.refusal import Refusal

    own, runtime = parsed.options["benchmark"], parsed.options["runtime"]
    most = max(own.batch_sizes)
    limits = options.Options(batch_size=most, queue=max(1000, most), max_megapixels=1e6, max_text_length=2**40)
    model = Model(servable, limits)
    names = candidates(runtime.engine, precision=served_precision(runtime.engine_precision))
    rows = []
    plain = model.runner
    with console.track("Measuring", total=len(names) * len(own.batch_sizes), unit="rows") as track:
        for name in sorted(names, key=lambda name: name != TENSORFLOW):
            model.runner = plain
            try:
                put_on_engine(model, dataclasses.replace(runtime, engine=name), console=console)
            except UserError as error:
                if runtime.engine != "auto":
                    raise
                console.say(str(error))
                track.advance(len(own.batch_sizes))
                continue
            for size in own.batch_sizes:
                try:
                    rows.append(latency.measure(model, raw, engine=name, batch_size=size, seconds=own.seconds))
                except Refusal as refusal:
                    raise UserError(f"--benchmark.batch_sizes={size}: {refusal.sentence}.") from refusal
                track.advance()
    return rows


def _say(started: "Start", rows: Sequence["Latency"], console: Console) -> None:
    first = [
        ["import of TensorFlow", f"{started.import_seconds:.2f} s"],
        ["load", f"{started.load_seconds:.2f} s"],
        ["first request", f"{1000 * started.first_request_seconds:.0f} ms"],
        ["second request", f"{1000 * started.second_request_seconds:.1f} ms"],
        ["memory of TensorFlow", f"{started.import_bytes / 1e6:.0f} MB"],
        ["memory of the model", f"{(started.loaded_bytes - started.import_bytes) / 1e6:.0f} MB"],
        ["peak memory", f"{started.peak_bytes / 1e6:.0f} MB"],
    ]
    console.table(["fresh process, TensorFlow alone", ""], first)
    console.say("\nMilliseconds of a request:")
    console.table(
        ["engine", "examples", "p50", "p90", "p99", "decode", "model", "encode", "examples/s", "requests"],
        [
            [
                row.engine,
                row.batch_size,
                *(f"{value:.2f}" for value in (row.p50, row.p90, row.p99, row.decode, row.model, row.encode)),
                f"{row.examples_per_second:,.1f}",
                row.requests,
            ]
            for row in rows
        ],
    )


def _write(folder: Path, results: dict[str, Any], rows: Sequence["Latency"]) -> None:
    from tfpt.atomic import atomic_text
    from tfpt.server.latency_figure import latency_figure
    from tfpt.serving import batching

    # TensorFlow's times where it was measured: the file is for TensorFlow Serving.
    chosen = batching.choose({row.batch_size: row.p50 / 1000 for row in rows if row.engine == rows[0].engine})
    files = {
        "results.json": json.dumps(results, indent=1) + "\n",
        "latency.svg": latency_figure(rows),
        "batching.config": chosen.text,
    }
    for name, text in files.items():
        with atomic_text(folder / name) as file:
            file.write(text)


if __name__ == "__main__":
    main()
