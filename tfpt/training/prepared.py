"""The examples of a source after the host half: read on demand, or kept in memory."""

import functools
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.data import DataSource
from tfpt.preprocessors import Preprocessor
from tfpt.training.kept_as_read import KeptAsRead, can_keep
from tfpt.training.prepared_store import Column, PreparedStore
from tfpt.untuned import untuned

_BLOCK = 64
_LOOKED_AT = 1000
_WORTH_STORING = 2.0
"""Seconds: what took longer to tokenise is kept on disk."""
Element = tuple[dict[str, Any], dict[str, Any], Any]
"""Features, frame and whether the example could be read and decoded."""


def as_written(function: Callable[..., Any], *parts: Any) -> Callable[..., Any]:
    """Keeps AutoGraph from a function of tfpt's own parts, in which it takes seconds to find nothing to change.

    Args:
        function: traced in a tf.data pipeline.
        *parts: the components that it calls, with those that they call; one from outside tfpt may count on AutoGraph.
    """
    waiting, own = list(parts), True
    while waiting:
        part = waiting.pop()
        own &= type(part).__module__.partition(".")[0] == "tfpt"
        waiting += [inner for inner in getattr(part, "__dict__", {}).values() if isinstance(inner, DataSource)]
    return tf.autograph.experimental.do_not_convert(function) if own else function


class Prepared:
    """The examples of a source after the host half: read on demand, or kept in memory.

    Args:
        source: the data.
        preprocessors: one a modality; each replaces its feature in the raw example.
        threads: how many examples are prepared at a time.
    """

    def __init__(self, source: DataSource, preprocessors: Sequence[Preprocessor], *, threads: int) -> None:
        self.source = source
        self.preprocessors = tuple(preprocessors)
        self.threads = threads
        self.failed: set[int] = set()
        """Examples that were met and could not be read or decoded."""
        self.lengths: np.ndarray | None = None
        """Length of each kept example by its index, where lengths vary."""
        self.shapes: dict[str, Any] = {}
        """Shapes that batches for `training` and for `evaluation` are padded to; where there are none, to their own longest."""
        self._slots: tf.Tensor | None = None
        self._kept: Any = None
        self._as_read: KeptAsRead | None = None
        self._placeholder = tf.nest.map_structure(_zeros, self.specs)

    def bytes_per_example(self) -> int:
        """Returns the memory that one prepared example takes at most; a length that varies counts as the longest."""
        features, frame = self.specs
        longest = max((p.size for p in self.preprocessors), default=1)
        return sum(
            int(np.prod([d or longest for d in spec.shape])) * max(1, spec.dtype.size)
            for spec in tf.nest.flatten((features, frame))
        )

    def read(self, k: tf.Tensor) -> Element:
        """Returns example k; one that cannot be read or decoded is a placeholder of zeros and False.

        Once examples are kept, another than these is an error of the caller's, which surfaces as an index out of range.
        """
        if self._slots is not None:
            slot = tf.gather(self._slots, k)
            slot = tf.where(slot < 0, tf.size(self._slots, tf.int64) + 1, slot)
            if self._as_read is not None:
                return self._as_read.read(slot, lambda: self._made(k))
            return tf.nest.map_structure(lambda kept: kept.of(slot), self._kept)
        return self._made(k)

    def read_rest(self, k: tf.Tensor) -> dict[str, Any]:
        """Returns what the host half does not make of example k, its label for one."""
        raw = {name for p in self.preprocessors for name in p.raw_features}
        return {name: value for name, value in self.source.example(k).items() if name not in raw}

    def _made(self, k: tf.Tensor) -> Element:
        # ignore_errors is how tf.data catches what an op raises, without Python in the way.
        read = (
            tf.data.Dataset.from_tensors(k).map(self._as_written(lambda i: (*self._host_half(i), True))).ignore_errors()
        )
        return read.concatenate(tf.data.Dataset.from_tensors((*self._placeholder, False))).take(1).get_single_element()

    def keep(
        self, examples: np.ndarray, *, console: Console, what: str, digests: Sequence[bytes] | None = None
    ) -> None:
        """Prepares the examples once and keeps them in memory; from then on only these can be read.

        Afterwards `lengths` holds their lengths, where these vary.

        Args:
            examples: `[examples]` int64.
            console: shows progress.
            what: the progress line's words.
            digests: content hash of each example of the source. Given, what took long to tokenise is also kept on disk, and
                found there the next time.
        """
        examples = np.unique(examples)
        store = (
            PreparedStore.of([digests[k] for k in examples], self.preprocessors) if digests and self._texts else None
        )
        stored = store.read() if store else None
        started = time.monotonic()
        try:
            kept = self._kept_columns(examples, stored, console, what)
        except tf.errors.OpError:
            if not stored:
                raise
            stored = None  # one could be read when it was stored, and cannot any more
            kept = self._kept_columns(examples, None, console, what)
        ok = kept[-1].values.numpy()
        self.failed.update(int(k) for k in examples[~ok])
        if store and not stored and ok.all() and time.monotonic() - started > _WORTH_STORING:
            store.write([column.column() for column, host in zip(kept, self._of_host, strict=True) if host])
        slots = self._take_slots(examples)
        self._kept = tf.nest.pack_sequence_as((*self._placeholder, False), kept)
        features = [self._kept[0][p.feature] for p in self.preprocessors]
        lengths = next((part.lengths for part in features if part.lengths is not None), None)
        if lengths is not None:
            self.lengths = np.zeros(len(slots), np.int64)
            self.lengths[examples] = lengths

    @property
    def can_keep_as_read(self) -> bool:
        """Whether examples can be kept as they are read: all are of one shape, so that nothing must be known before."""
        return not self._texts and can_keep(self.specs)

    def keep_as_read(self, examples: np.ndarray) -> None:
        """From now on only these can be read, and each is kept from the first time on.

        Args:
            examples: `[examples]` int64.
        """
        examples = np.unique(examples)
        self._as_read = KeptAsRead((*self.specs, tf.TensorSpec((), tf.bool)), len(examples))
        self._take_slots(examples)

    def complete(self, *, console: Console, what: str) -> None:
        """Reads what is kept as it is read, and was not yet; afterwards `failed` names all that cannot be.

        Args:
            console: shows progress.
            what: the progress line's words.
        """
        if self._as_read is None or self._slots is None:
            return
        slots = self._slots.numpy()
        self.failed.update(np.flatnonzero(np.isin(slots, self._as_read.where_last_is_false())).tolist())
        examples = np.flatnonzero(np.isin(slots, self._as_read.missing()))
        if not len(examples):
            return
        read = tf.data.Dataset.from_tensor_slices(examples).map(
            self._as_written(lambda k: (k, self.read(k)[2])), num_parallel_calls=self.threads
        )
        with console.track(what, total=len(examples), unit="examples") as track:
            for ks, ok in untuned(read.batch(_BLOCK).prefetch(2)).as_numpy_iterator():
                self.failed.update(int(k) for k in ks[~ok])
                track.advance(len(ks))

    def _as_written(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return as_written(function, self.source, *self.preprocessors)

    def _take_slots(self, examples: np.ndarray) -> np.ndarray:
        slots = np.full(int(examples[-1]) + 1, -1, np.int64)
        slots[examples] = np.arange(len(examples))
        with tf.device("CPU:0"):
            self._slots = tf.constant(slots)
        return slots

    def _kept_columns(
        self, examples: np.ndarray, stored: Sequence[Column] | None, console: Console, what: str
    ) -> list["_Kept"]:
        """Returns what is kept, flattened: from the host half, or stored, with the rest from the source."""
        specs = tf.nest.flatten((*self.specs, tf.TensorSpec((), tf.bool)))
        wanted = [not (stored and host) for host in self._of_host]
        parts: list[list[Any]] = [[] for _ in specs]
        blocks = self._rest_blocks(examples) if stored else self._blocks(examples)
        with console.track(what, total=len(examples), unit="examples") as track:
            for size, batch in untuned(blocks.prefetch(2)):
                for part, value in zip(itertools.compress(parts, wanted), tf.nest.flatten(batch), strict=True):
                    part.append(value)
                track.advance(int(size))
        found = iter(stored or ())
        return [
            _Kept.of_batches(part, spec) if new else _Kept(*next(found))
            for part, spec, new in zip(parts, specs, wanted, strict=True)
        ]

    def truncated(self, examples: np.ndarray) -> dict[str, float]:
        """Returns the share of examples of which something was cut off, by feature, where that can happen.

        Args:
            examples: `[examples]` int64; at most 1,000 of them are looked at, evenly spaced, unless all are kept.
        """
        if all(type(p).is_truncated is Preprocessor.is_truncated for p in self.preprocessors):
            return {}
        if self._slots is None:
            examples = examples[:: -(-len(examples) // _LOOKED_AT)]
        frames = tf.data.Dataset.from_tensor_slices(examples).map(
            lambda k: {p.feature: p.is_truncated(self.read(k)[1][p.feature]) for p in self.preprocessors},
            num_parallel_calls=self.threads,
        )
        found = list(untuned(frames).as_numpy_iterator())
        return {name: float(np.mean([one[name] for one in found])) for name in (found[0] if found else {})}

    def _blocks(self, examples: np.ndarray) -> tf.data.Dataset:
        """Returns the examples in their order, blocks of them at a time."""
        ks = tf.data.Dataset.from_tensor_slices(examples)
        if self._texts:
            # A text tokenised with others costs a tenth. Where one of them cannot be read, each is by itself.
            blocks = ks.batch(_BLOCK).map(
                self._as_written(self._block), num_parallel_calls=self.threads, deterministic=True
            )
        else:
            blocks = ks.map(
                self._as_written(self.read), num_parallel_calls=self.threads, deterministic=True
            ).ragged_batch(_BLOCK)
        return blocks.map(lambda features, frame, ok: (tf.size(ok), (features, frame, ok)))

    def _rest_blocks(self, examples: np.ndarray) -> tf.data.Dataset:
        """Returns what the host half does not make of the examples, their labels for one, blocks of them at a time."""
        ks = tf.data.Dataset.from_tensor_slices(examples)
        read = ks.map(
            self._as_written(lambda k: (k, self.read_rest(k))), num_parallel_calls=self.threads, deterministic=True
        )
        blocks = read.ragged_batch(_BLOCK)
        return blocks.map(lambda k, features: (tf.size(k), features))

    def _block(self, ks: tf.Tensor) -> Any:
        size = tf.size(ks, tf.int64)
        whole = tf.data.Dataset.from_tensors(ks).map(self._prepare_block).ignore_errors()
        # The prefetch keeps map and batch apart: TensorFlow fails to fuse them here where the host half has variables.
        single = tf.data.Dataset.from_tensor_slices(ks).map(self.read).prefetch(1).ragged_batch(size)
        return whole.concatenate(single).take(1).get_single_element()

    def _prepare_block(self, ks: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any], tf.Tensor]:
        raw = tf.data.Dataset.from_tensor_slices(ks).map(self.source.example).ragged_batch(tf.size(ks, tf.int64))
        features = dict(raw.get_single_element())
        frame = {}
        for preprocessor in self.preprocessors:
            value, framed = preprocessor.host_batch(*(features.pop(name) for name in preprocessor.raw_features))
            lengths = _lengths(value)
            shape, _ = preprocessor.host_spec()
            features[preprocessor.feature] = _cut_padding(value, shape, lengths)
            frame[preprocessor.feature] = {
                part: _cut_padding(framed[part], shape, lengths)
                for part, (shape, _) in preprocessor.frame_spec().items()
            }
        return features, frame, tf.ones(tf.shape(ks), tf.bool)

    def _prepare(self, k: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        features = dict(self.source.example(k))
        frame = {}
        for preprocessor in self.preprocessors:
            name = preprocessor.feature
            value, framed = preprocessor.host(*(features.pop(raw) for raw in preprocessor.raw_features))
            # A placeholder must have the declared shapes, which tracing alone may not find out.
            features[name] = tf.ensure_shape(value, preprocessor.host_spec()[0])
            frame[name] = {part: tf.ensure_shape(framed[part], s) for part, (s, _) in preprocessor.frame_spec().items()}
        return features, frame

    @property
    def _texts(self) -> bool:
        """Whether everything that is prepared is text, many of which are prepared faster than one by one."""
        return all(type(p).host_batch is not Preprocessor.host_batch for p in self.preprocessors)

    @functools.cached_property
    def _of_host(self) -> list[bool]:
        """Which parts of an element, flattened, are made by the host half."""
        features, frame = self.specs
        made = {p.feature for p in self.preprocessors}
        return tf.nest.flatten(
            ({name: name in made for name in features}, tf.nest.map_structure(lambda spec: True, frame), True)
        )

    @functools.cached_property
    def specs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Shapes and dtypes of an example's features and frames."""
        return tf.data.Dataset.range(1).map(self._as_written(lambda k: self._host_half(k))).element_spec

    @functools.cached_property
    def _host_half(self) -> Any:
        """What `_prepare` does, as one graph: a run puts it into a dozen, and to trace it takes a fifth of a second."""
        return tf.function(self._as_written(self._prepare)).get_concrete_function(tf.TensorSpec((), tf.int64))


class WithoutHost(Prepared):
    """Examples for who reads only what the host half does not make: of that there are zeros.

    Args:
        prepared: the examples.
        failed: those that cannot be decoded.
    """

    def __init__(self, prepared: Prepared, failed: Collection[int]) -> None:
        self.__dict__ |= prepared.__dict__
        self._bad = np.array(sorted(failed), np.int64)

    def read(self, k: tf.Tensor) -> Element:
        """Returns example k, but for zeros."""
        features, frame = self._placeholder
        return {**features, **self.read_rest(k)}, frame, tf.reduce_all(k != self._bad)


class Trusting(Prepared):
    """Examples that are taken to be readable: one that is not raises, and the others are prepared in two thirds of the time.

    Args:
        prepared: the examples.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.__dict__ |= prepared.__dict__

    def _made(self, k: tf.Tensor) -> Element:
        return (*self._host_half(k), tf.constant(True))


class _Kept:
    """One feature of all kept examples: an array, or, where the first dimension varies, one after the other."""

    def __init__(self, values: Any, lengths: np.ndarray | None) -> None:
        self.lengths = lengths
        with tf.device("CPU:0"):
            self.values = tf.convert_to_tensor(values)
            if lengths is not None:
                self._starts = tf.constant(np.cumsum([0, *lengths]))

    @classmethod
    def of_batches(cls, parts: Sequence[Any], spec: tf.TensorSpec) -> "_Kept":
        """Puts batches together; `spec` is that of one example."""
        with tf.device("CPU:0"):
            if spec.shape.rank and spec.shape[0] is None:
                lengths = np.concatenate([part.row_lengths().numpy() for part in parts])
                return cls(tf.concat([part.values for part in parts], axis=0), lengths)
            return cls(tf.concat(parts, axis=0), None)

    def column(self) -> Column:
        """Returns it as arrays."""
        return self.values.numpy(), self.lengths

    def of(self, slot: tf.Tensor) -> tf.Tensor:
        """Returns the feature of one example."""
        if self.lengths is None:
            return self.values[slot]
        return self.values[self._starts[slot] : self._starts[slot + 1]]


def _lengths(padded: tf.Tensor) -> tf.Tensor:
    """Returns how many entries of each example are there before only zeros, padding, follow."""
    there = tf.reduce_any(tf.reshape(padded, [*tf.unstack(tf.shape(padded)[:2]), -1]) != 0, axis=-1)
    return tf.reduce_max(tf.where(there, tf.range(1, tf.shape(padded)[1] + 1), 0), axis=1)


def _cut_padding(padded: tf.Tensor, shape: Sequence[int | None], lengths: tf.Tensor) -> Any:
    """Returns values without the padding of batches, where their length varies; `shape` is that of one example."""
    padded = tf.ensure_shape(padded, [None, *shape])
    varies = shape and shape[0] is None
    return tf.RaggedTensor.from_tensor(padded, lengths=lengths) if varies else padded


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([d or 0 for d in spec.shape], spec.dtype)
