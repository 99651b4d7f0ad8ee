"""One loaded version of a bundle, cut where examples of several clients can be put together.

Raw examples are prepared one by one by the host half (decoded, resized, tokenised), outside of any batch: an example that
cannot be is refused by itself. What was prepared is stacked, the runner computes the task's outputs, and the task decodes them.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfpt.errors import UserError
from tfpt.preprocessors import Preprocessor, distinct
from tfpt.preprocessors.image import Image
from tfpt.server import picture_size
from tfpt.server.options import Options
from tfpt.server.refusal import Code, Refusal, busy, invalid
from tfpt.server.signature import Signature, Values, definitions
from tfpt.serving import parity, synthetic
from tfpt.serving.padding import concatenated
from tfpt.serving.servable import INPUTS, SINGLE, Servable, host_half, host_signature

DEFAULT, EXAMPLES = "serving_default", "examples"
CLASSES, SCORES = "classes", "scores"
"""The outputs that the method Classify reads."""
_PROOF = 8
"""Synthetic examples by which another engine is compared with TensorFlow."""
_CLOSE = 1e-5
"""How far the answers of prepared examples may be from those of the bundle's own graph."""
_PICTURES, _TEXTS = 8, 64
"""Examples that are prepared before another request may have the thread."""
_LOG = logging.getLogger(__name__)
_REJECTED = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError)
_NO_MEMORY = "there is not enough memory for this at the moment"


class Runner(Protocol):
    """Computes the task's outputs; an engine other than TensorFlow stands here."""

    def predict(self, batch: Values) -> dict[str, np.ndarray]:
        """Returns outputs by name for the inputs of the bundle's signature `outputs`, `[batch, ...]` each."""


class TensorflowRunner:
    """Calls a signature of the bundle."""

    def __init__(self, function: Callable[..., Mapping[str, Any]]) -> None:
        self._function = function

    def predict(self, batch: Values) -> dict[str, np.ndarray]:
        """Returns the signature's outputs."""
        made = self._function(**{name: tf.constant(value) for name, value in batch.items()})
        return {name: value.numpy() for name, value in made.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Examples of one request, ready to be computed together with others.

    Attributes:
        signature: whose examples.
        values: `[examples, ...]` each: the signature's inputs, or prepared features and frames.
        length: how many examples.
        key: examples with equal keys can be put together.
        alone: whether nobody else's examples will ever have this key.
        cost: what an example takes to compute, in those that fit the model as they are: a long text is many windows.
    """

    signature: str
    values: dict[str, np.ndarray]
    length: int
    key: tuple[Any, ...]
    alone: bool = False
    cost: int = 1

    def share(self, size: int) -> int:
        """Returns how many of these examples take as long as a batch of `size` usual ones, at least 1."""
        return max(1, size // self.cost)

    def parts(self, size: int) -> list["Work"]:
        """Returns the same in pieces that take no longer than a batch of `size` examples."""
        size = self.share(size)
        return [
            dataclasses.replace(
                self,
                values={name: value[start : start + size] for name, value in self.values.items()},
                length=min(size, self.length - start),
            )
            for start in range(0, self.length, size)
        ]


class Model:
    """A bundle that answers; `prepare` and `predict` may run in any thread."""

    def __init__(self, servable: Servable, options: Options) -> None:
        """Cuts a loaded servable.

        Raises:
            UserError: the parts do not answer as the bundle's own graph does.
        """
        assert servable.folder is not None, "only a bundle can be served"
        self.folder: Path = servable.folder
        self.preprocessors = distinct(servable.preprocessors)
        self.features = {servable.input_name(name): p for p in self.preprocessors for name in p.raw_features}
        functions = vars(servable.outputs)["loaded"].signatures
        self.signatures = {
            name: Signature.of(
                name,
                function,
                longest=max(p.size for p in self.preprocessors) if name == SINGLE else None,
                most=options.max_pixels if name == "pixels" else None,
            )
            for name, function in functions.items()
            if not name.startswith("__")
        }
        self.definitions = definitions(self.folder)
        self._servable = servable
        self._options = options
        self._runners: dict[str, Runner] = {name: TensorflowRunner(functions[name]) for name in self.signatures}
        self._functions = functions
        self._hosts = [self._host(p) for p in self.preprocessors]
        self._device = tf.function(self._inputs, autograph=False, reduce_retracing=True)
        self._decode = tf.function(self._decoded, autograph=False, reduce_retracing=True)
        self._prove()

    def prepare(self, name: str, values: Values, *, own: bool = False) -> Work:
        """Checks the inputs of one request and runs the host half on each of its examples.

        Args:
            name: of the signature.
            values: its inputs.
            own: whether they are the server's own, which are held to no limits.

        Raises:
            Refusal: they cannot be answered.
        """
        *_, work = self.preparing(name, values, own=own)
        assert work is not None
        return work

    def preparing(self, name: str, values: Values, *, own: bool = False) -> Iterator[Work | None]:
        """Does the same in portions: yields None after each but the last, then the work.

        Raises:
            Refusal: they cannot be answered.
        """
        signature = self.signature(name)
        length = signature.checked(values, most_examples=self._options.queue)
        key: tuple[Any, ...] = (name, *((n, v.shape[1:]) for n, v in sorted(values.items())))
        # Answers of varying length are padded to the longest of a batch: neighbours would be seen in them. Where the inputs'
        # shapes are in the key, what varies is the same for all.
        alone, cost = False, 1
        if (takes_examples := bool(signature.examples_input)) or self._takes_raw(signature):
            raw = self._parsed(values[signature.examples_input]) if takes_examples else values
            for feature in () if own else self.features:
                for k, value in enumerate(raw[feature]):
                    self._check_raw(feature, value, example=f"example {k}" if length > 1 else "the example")
            prepared = yield from self._prepared(raw, length)
            alone = signature.answers_vary
            if name in (DEFAULT, EXAMPLES):
                cost = self._cost(prepared)
                key, values = (DEFAULT, cost), prepared
        elif any(value.dtype == object for value in values.values()):
            alone = True  # what is in the strings is not known here
        key = (*key, object()) if alone else key
        yield Work(signature=name, values=dict(values), length=length, key=key, alone=alone, cost=cost)

    def predict(self, works: Sequence[Work]) -> list[dict[str, np.ndarray]]:
        """Computes examples with equal keys together.

        Returns:
            For each work its answers by output name, `[examples, ...]` each.

        Raises:
            Refusal: the model does not take them.
        """
        values = {name: concatenated([work.values[name] for work in works]) for name in works[0].values}
        name = works[0].signature
        try:
            whole = name in (DEFAULT, EXAMPLES)
            answers = self._answer(values) if whole else self._runners[name].predict(values)
        except _REJECTED as error:
            raise invalid(f"the model does not take this: {_first_line(error)}") from error
        except tf.errors.ResourceExhaustedError as error:
            raise busy(_NO_MEMORY) from error
        except (tf.errors.OpError, RuntimeError) as error:  # which is also what other engines raise
            _LOG.exception("A batch of signature %s could not be computed.", name)
            raise busy(f"the model failed: {str(error).strip().partition(chr(10))[0][:200]}") from error
        ends = np.cumsum([work.length for work in works])
        if any(len(value) != ends[-1] for value in answers.values()):
            raise invalid(f"signature {name} does not answer example by example")
        return [
            {name: value[end - work.length : end] for name, value in answers.items()}
            for work, end in zip(works, ends, strict=True)
        ]

    def signature(self, name: str) -> Signature:
        """Returns a signature; an empty name means the default.

        Raises:
            Refusal: there is none of that name.
        """
        name = name or DEFAULT
        if name not in self.signatures:
            raise Refusal(
                Code.FAILED_PRECONDITION, f'Serving signature name: "{name[:100]}" not found in signature def'
            )
        return self.signatures[name]

    @property
    def runner(self) -> Runner:
        """What computes the task's outputs."""
        return self._runners[SINGLE]

    @runner.setter
    def runner(self, runner: Runner) -> None:
        self._runners[SINGLE] = runner

    def function(self, name: str) -> Any:
        """Returns a signature's function in the bundle."""
        return self._functions[name]

    def put_on(self, runner: Runner) -> parity.Parity:
        """Lets something else compute the task's outputs, if it answers synthetic examples as what did before.

        Returns:
            The proof; where it failed, everything stays as it was.
        """
        started = time.monotonic()
        works = self.synthetic_work()
        before, wanted = self.runner, self._answers(works)
        self.runner = runner
        proof = None
        try:
            proof = parity.compare(wanted, self._answers(works), seconds=time.monotonic() - started)
        finally:
            if proof is None or not proof.passed:
                self.runner = before
        return proof

    def synthetic_work(self) -> list[Work]:
        """Returns single examples, prepared, by which engines are compared."""
        made = synthetic.examples(self.preprocessors, _PROOF)
        return [self._own_work(raw) for raw in made]

    def _answers(self, works: Sequence[Work]) -> dict[str, np.ndarray]:
        """Returns the answers to examples, those together that can be, as `[examples, ...]` each."""
        together = [list(works)] if len({work.key for work in works}) == 1 else [[work] for work in works]
        parts = [answer for batch in together for answer in self.predict(batch)]
        return {name: concatenated([part[name] for part in parts]) for name in parts[0]}

    def _own_work(self, raw: Mapping[str, bytes]) -> Work:
        return self.prepare(DEFAULT, self._request(raw), own=True)

    def _request(self, raw: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """Returns the inputs of a request of one example, given by feature."""
        return {name: np.array([value], object) for name, value in self._servable.by_input(raw).items()}

    def _parsed(self, serialised: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the inputs that stand in serialised `tf.Example`s.

        Raises:
            Refusal: one cannot be read, or lacks an input.
        """
        made = {name: np.empty(len(serialised), object) for name in self.features}
        for number, text in enumerate(serialised):
            try:
                features = tf.train.Example.FromString(text).features.feature
            except DecodeError as error:
                raise invalid(f"example {number} is no serialised tf.Example") from error
            for name, values in made.items():
                found = list(features[name].bytes_list.value) if name in features else []
                if len(found) != 1:
                    raise invalid(f"feature {name} of example {number} has {len(found)} strings, not 1")
                values[number] = found[0]
        return made

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Computes synthetic batches: the first of a size takes several times as long as the next."""
        work = self._own_work(synthetic.samples(self.preprocessors))
        for size in sizes:
            self.predict([work] * size)

    def smallest_example(self) -> dict[str, bytes]:
        """Returns a raw example by input name that the model takes: a picture of one pixel, a short sentence."""
        grey = tf.io.encode_png(tf.fill([1, 1, 1], tf.constant(128, tf.uint8))).numpy()
        return {name: grey if isinstance(p, Image) else p.sample() for name, p in self.features.items()}

    def _takes_raw(self, signature: Signature) -> bool:
        return signature.inputs.keys() == self.features.keys() and all(
            tensor.dtype == object for tensor in signature.inputs.values()
        )

    def _check_raw(self, feature: str, value: bytes, *, example: str) -> None:
        preprocessor = self.features[feature]
        if isinstance(preprocessor, Image):
            try:
                pixels = picture_size.pixels(value)
            except picture_size.UnreadablePictureError as error:
                raise invalid(f"{feature} of {example} cannot be decoded: {error}") from error
            if pixels > self._options.max_pixels:
                raise invalid(
                    f"{feature} of {example} has {pixels / 1e6:.1f} million pixels, more than "
                    f"{self._options.max_megapixels:g}"
                )
        elif len(value) > self._options.max_text_length:
            raise invalid(
                f"{feature} of {example} is {len(value)} bytes long, more than {self._options.max_text_length}"
            )

    def _prepared(self, values: Values, length: int) -> Generator[None, None, dict[str, np.ndarray]]:
        """Runs the host half, on one picture at a time, which bounds the memory; yields between two portions."""
        made: dict[str, np.ndarray] = {}
        for preprocessor, host in zip(self.preprocessors, self._hosts, strict=True):
            raw = [values[self._servable.input_name(name)] for name in preprocessor.raw_features]
            step, portion = (1, _PICTURES) if isinstance(preprocessor, Image) else (_TEXTS, _TEXTS)
            parts = []
            for start in range(0, length, step):
                if start and start % portion == 0:
                    yield
                try:
                    parts.append(host(*(tf.constant(value[start : start + step], tf.string) for value in raw)))
                except tf.errors.ResourceExhaustedError as error:
                    raise busy(_NO_MEMORY) from error
                except tf.errors.OpError as error:
                    example = f"example {start}" if length > 1 else "the example"
                    raise invalid(
                        f"{preprocessor.feature} of {example} cannot be decoded: {_first_line(error)}"
                    ) from error
            for name in parts[0]:
                made[name] = concatenated([part[name].numpy() for part in parts])
        return made

    def _cost(self, prepared: Values) -> int:
        """Returns how many times the model's own size an example is, as a power of two, so that like ones share batches."""
        shapes = [(prepared[p.feature].shape, p.size) for p in self.preprocessors]
        times = max(shape[1] / size if len(shape) > 1 and size else 1 for shape, size in shapes)
        return 1 << max(0, math.ceil(times) - 1).bit_length()

    def _host(self, preprocessor: Preprocessor) -> Callable[..., Mapping[str, tf.Tensor]]:
        """Returns the host half: the bundle's own, or, in one of an earlier tfpt, this tfpt's."""
        if (name := host_signature(preprocessor)) not in self._functions:
            return host_half(preprocessor)
        names = [self._servable.input_name(feature) for feature in preprocessor.raw_features]
        return lambda *raw: self._functions[name](**dict(zip(names, raw, strict=True)))

    def _answer(self, values: Values) -> dict[str, np.ndarray]:
        prepared = {name: tf.constant(value) for name, value in values.items()}
        inputs = self._device(prepared)
        batch = inputs if isinstance(inputs, dict) else {INPUTS: inputs}
        outputs = self._runners[SINGLE].predict({name: value.numpy() for name, value in batch.items()})
        decoded = self._decode({name: tf.constant(value) for name, value in outputs.items()}, prepared)
        return {name: value.numpy() for name, value in decoded.items()}

    def _inputs(self, prepared: Mapping[str, tf.Tensor]) -> Any:
        features = {p.feature: prepared[p.feature] for p in self.preprocessors}
        ones = tf.ones([tf.shape(next(iter(features.values())))[0]])
        task = self._servable.task
        return task.batch({**features, "weight": ones}, self._frame(prepared), self._servable.state, False)["inputs"]

    def _decoded(self, outputs: dict[str, tf.Tensor], prepared: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        unnamed = outputs[SINGLE] if set(outputs) == {SINGLE} else outputs
        return self._servable.task.decode(unnamed, self._frame(prepared), self._servable.state)

    def _frame(self, prepared: Mapping[str, tf.Tensor]) -> dict[str, dict[str, tf.Tensor]]:
        return {
            p.feature: {name: prepared[f"{p.feature}/{name}"] for name in p.frame_spec()} for p in self.preprocessors
        }

    def _prove(self) -> None:
        """Compares the parts with the whole: this tfpt may prepare examples differently from the one that exported."""
        whole = TensorflowRunner(self.function(DEFAULT))
        noise = synthetic.examples(self.preprocessors, 1, picture=(97, 61))
        for raw in (synthetic.samples(self.preprocessors), *noise):
            (answer,) = self.predict([self._own_work(raw)])
            wanted = whole.predict(self._request(raw))
            if not _agree(answer, wanted):
                raise UserError(
                    f"--model={self.folder} answers otherwise with this tfpt than with the one that exported it; export it "
                    "again, or install that version."
                )


def _agree(ours: Values, theirs: Values) -> bool:
    """Tells whether two answers to one example are the same.

    Words and whole numbers are chosen by the scores, and may be others where the two best scores are equally good.
    """
    best = np.sort(theirs.get(SCORES, np.zeros(0)), axis=None)[-2:]
    tie = len(best) == 2 and best[1] - best[0] <= _CLOSE
    return ours.keys() == theirs.keys() and all(_alike(ours[name], theirs[name], tie=tie) for name in theirs)


def _alike(ours: np.ndarray, theirs: np.ndarray, *, tie: bool) -> bool:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if np.issubdtype(ours.dtype, np.floating):
        return bool(np.allclose(ours, theirs, rtol=_CLOSE, atol=_CLOSE, equal_nan=True))
    return tie or bool(np.array_equal(ours, theirs))


def _first_line(error: tf.errors.OpError) -> str:
    """Returns what an op complained about, without the graph's names around it."""
    return error.message.strip().partition("\n")[0].partition(" [Op:")[0].partition(" [[{{")[0][:200]
