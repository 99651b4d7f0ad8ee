"""How long a model takes to answer, and where the time goes: the way of a REST request, without the network."""

import base64
import dataclasses
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfpt.server import json_values
from tfpt.server.model import DEFAULT, Model, Runner
from tfpt.server.signature import Values
from tfpt.serving import first_answer
from tfpt.serving.servable import Servable

Raw = Mapping[str, bytes]
"""One raw example by input name."""
_FEWEST = 20
"""Requests that are measured however long they take."""
_UNMEASURED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """What requests of one size took on one engine; times in milliseconds.

    Attributes:
        engine: that ran the model.
        batch_size: examples of a request.
        requests: that were measured.
        p50: the median.
        p90: nine of ten took less.
        p99: 99 of 100 took less; the longest where there were fewer than 100.
        decode: mean time to read the request and prepare its examples (decode, resize, tokenise).
        model: mean time of the network.
        encode: mean time from its outputs to the answer's bytes.
        examples_per_second: of one client that asks again and again.
    """

    engine: str
    batch_size: int
    requests: int
    p50: float
    p90: float
    p99: float
    decode: float
    model: float
    encode: float
    examples_per_second: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What a fresh process with TensorFlow alone took, in seconds and bytes.

    Attributes:
        import_seconds: of TensorFlow.
        import_bytes: resident afterwards.
        load_seconds: of the bundle.
        loaded_bytes: resident afterwards.
        first_request_seconds: one example.
        second_request_seconds: the same again.
        peak_bytes: the most that was resident.
    """

    import_seconds: float
    import_bytes: int
    load_seconds: float
    loaded_bytes: int
    first_request_seconds: float
    second_request_seconds: float
    peak_bytes: int


def measure(model: Model, raw: Sequence[Raw], *, engine: str, batch_size: int, seconds: float) -> Latency:
    """Sends requests one after the other.

    Args:
        model: answers them.
        raw: examples that requests are filled with in turn, by input name.
        engine: what runs the model, for the result.
        batch_size: examples of a request.
        seconds: how long, after a few that are not measured; at least 20 requests.
    """
    examples = itertools.cycle(raw)
    bodies = [_body([next(examples) for _ in range(batch_size)]) for _ in range(max(1, len(raw) // batch_size))]
    timed = _Timed(model.runner)
    parts: list[tuple[float, float, float]] = []
    model.runner = timed
    try:
        for number, body in enumerate(itertools.cycle(bodies)):
            part = _request(model, timed, body)
            if number >= _UNMEASURED:
                parts.append(part)
            if len(parts) >= _FEWEST and np.sum(parts) >= seconds:
                break
    finally:
        model.runner = timed.runner
    milliseconds = 1000 * np.array(parts)
    totals = milliseconds.sum(axis=1)
    p50, p90, p99 = (float(value) for value in np.percentile(totals, [50, 90, 99], method="higher"))
    decode, network, encode = (float(value) for value in milliseconds.mean(axis=0))
    return Latency(
        engine=engine, batch_size=batch_size, requests=len(parts), p50=p50, p90=p90, p99=p99, decode=decode,
        model=network, encode=encode, examples_per_second=float(1000 * batch_size / totals.mean()),
    )  # fmt: skip


def start(servable: Servable, example: Raw) -> Start:
    """Loads a bundle in a fresh process and asks it twice.

    Raises:
        RuntimeError: the process failed.
    """
    libraries = sorted({library for p in servable.preprocessors.values() for library in p.libraries})
    sent = json.dumps({name: base64.b64encode(value).decode() for name, value in example.items()})
    assert servable.folder is not None
    command = [sys.executable, "-I", str(Path(first_answer.__file__)), str(servable.folder.resolve()), *libraries]
    done = subprocess.run(command, input=sent, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the fresh process failed: {last[:300]}")
    return Start(**json.loads(done.stdout.splitlines()[-1]))


class _Timed:
    """A runner that counts its own time."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.seconds = 0.0

    def predict(self, batch: Values) -> dict[str, np.ndarray]:
        """Returns what the runner does."""
        started = time.perf_counter()
        try:
            return self.runner.predict(batch)
        finally:
            self.seconds += time.perf_counter() - started


def _request(model: Model, timed: _Timed, body: bytes) -> tuple[float, float, float]:
    """Answers one request; returns the seconds of decoding, of the model, and of encoding."""
    timed.seconds = 0.0
    started = time.perf_counter()
    values = json_values.inputs_of(json_values.parse(body), model.signature(DEFAULT))
    work = model.prepare(DEFAULT, values)
    prepared = time.perf_counter()
    (answers,) = model.predict([work])
    json_values.predictions(answers, by_row=True)
    ended = time.perf_counter()
    return prepared - started, timed.seconds, ended - prepared - timed.seconds


def _body(examples: Sequence[Raw]) -> bytes:
    rows = [
        {name: {"b64": base64.b64encode(value).decode()} for name, value in example.items()} for example in examples
    ]
    return json_values.dump({"instances": rows})
