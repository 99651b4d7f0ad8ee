"""Data that was given in Python: arrays, data frames of pandas, and tf.data.Dataset, each alone or by split."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt.data import DataSource
from tfpt.data._arrays import ArraySource, Part
from tfpt.data._files import Files
from tfpt.data._table import TableFile
from tfpt.data._tagged_table import TaggedTableSource
from tfpt.errors import UserError
from tfpt.fields import build, refusal, settings_of

_SPLITS = ("train", "validation", "test")
_WAYS = "a pair of arrays (x, y), a pandas DataFrame, a tf.data.Dataset, or a dictionary of one of these by split"


def as_source(data: Any, options: Mapping[str, Any]) -> DataSource:
    """Returns a source of what was given in Python.

    Args:
        data: arrays `(x, y)`, a DataFrame or a tf.data.Dataset, or a dictionary with one for each of `train`, `validation` and `test`.
        options: settings of the columns (of a DataFrame: text, label, ...) or arrays (classes, label_type).

    Raises:
        UserError: it is nothing of these.
    """
    parts = data if isinstance(data, Mapping) else {"": data}
    if not parts or (isinstance(data, Mapping) and not set(parts) <= set(_SPLITS)):
        raise UserError(
            f"data: the splits {', '.join(map(str, parts)) or '(none)'} are not among {', '.join(_SPLITS)}."
        )
    for fits, make in ((_is_pair, GivenArrays), (_is_frame, GivenFrames), (_is_dataset, GivenDatasets)):
        if all(map(fits, parts.values())):
            return make(parts, _config(make, options))
    raise UserError(f'data={type(data).__name__}: write data="NAME:ARGUMENT", or give a DataSource, {_WAYS}.')


def _config(source: type[DataSource], options: Mapping[str, Any]) -> Any:
    settings = {setting.name: setting for setting in settings_of("data", source.Config)}
    unknown = next((name for name in options if name not in settings), None)
    if unknown:
        raise UserError(f"data.{unknown}: there is no such setting; there are {', '.join(settings)}.")
    values = {}
    for name, value in options.items():
        try:
            values[name] = settings[name].coerce(value)
        except ValueError as error:
            raise refusal(f"data.{name}", str(value), str(error), prefix="") from error
    return build(source.Config, "data", values, prefix="")


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(part, "__len__") for part in given)


def _is_frame(given: Any) -> bool:
    return hasattr(given, "columns") and hasattr(given, "itertuples")


def _is_dataset(given: Any) -> bool:
    return hasattr(given, "element_spec") and hasattr(given, "as_numpy_iterator")


class _Given:
    """Where what was given is kept: each part by its split, `""` for one that is yet to be split."""

    def __init__(self, parts: Mapping[str, Any], config: Any) -> None:
        super().__init__("", config)  # type: ignore[call-arg]
        self.given = dict(parts)

    def find(self) -> Files:
        """Returns a table for each split; without splits there is one, called examples."""
        splits = [split for split in ("train", "", "validation", "test") if split in self.given]
        return Files(files=tuple((Path.cwd() / (split or "examples"), split) for split in splits))

    def of(self, path: Path) -> Any:
        """Returns what was given for one of the tables."""
        return self.given["" if path.name == "examples" else path.name]

    def origin(self) -> str:
        """Says that it was given in Python."""
        return f"{type(self).__name__[5:].lower()} given in Python"


class GivenArrays(_Given, ArraySource):
    """Pairs of arrays: pictures `[n, height, width, channels]` or texts `[n]`, and labels `[n]` or `[n, m]`."""

    find = ArraySource.find

    def parts(self) -> Sequence[Part]:
        """Returns them."""
        import numpy as np

        return [
            Part(split=split, inputs=np.asarray(x), labels=np.asarray(y), where=f"data[{split!r}]" if split else "data")
            for split, (x, y) in self.given.items()
        ]


class GivenFrames(_Given, TaggedTableSource):
    """DataFrames of pandas; pictures in them are bytes, or paths relative to the working folder."""

    def open(self, path: Path) -> TableFile:
        """Opens one frame."""
        frame = self.of(path)
        if not len(frame):
            raise UserError(f"data: the DataFrame {path.name} holds no rows.")
        return _FrameRows(frame)


class _FrameRows:
    guessed = False

    def __init__(self, frame: Any) -> None:
        self._frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
        self.columns: Sequence[str] = list(self._frame.columns)
        self.first: Sequence[Any] = [_of_arrays(value) for value in self._frame.iloc[0].tolist()]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1 and wanted cells of each row; what pandas counts as missing is nothing."""
        chosen = self._frame[list(wanted)]
        there = chosen.notna()
        cells = (chosen[name].astype(object).where(there[name], None).tolist() for name in dict.fromkeys(wanted))
        columns = dict(zip(dict.fromkeys(wanted), cells, strict=True))
        for number, row in enumerate(zip(*(columns[name] for name in wanted), strict=True), 1):
            yield number, [_of_arrays(value) for value in row]


def _of_arrays(value: Any) -> Any:
    """Returns a cell with lists in place of arrays, which pandas has in what was read from Parquet."""
    if isinstance(value, dict):
        return {key: _of_arrays(part) for key, part in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


class GivenDatasets(_Given, TaggedTableSource):
    """tf.data.Datasets of pairs or dictionaries: pictures as uint8 or encoded, texts, and labels; they are read once, to their end."""

    def open(self, path: Path) -> TableFile:
        """Opens one data set."""
        return _DatasetRows(self.of(path), path.name)


class _DatasetRows:
    guessed = False

    def __init__(self, dataset: Any, name: str) -> None:
        import tensorflow as tf

        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise UserError(f"data: the Dataset {name} never ends; take(n) of it does.")
        spec = dataset.element_spec
        if isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(part, tf.TensorSpec) for part in spec):
            feature = "text" if spec[0].dtype == tf.string else "image"
            dataset = dataset.map(lambda x, y: {feature: x, "label": y})
        elif not (isinstance(spec, dict) and all(isinstance(part, tf.TensorSpec) for part in spec.values())):
            raise UserError(
                f"data: the Dataset {name} yields {spec}; pairs (x, y) or dictionaries of tensors are read."
            )
        spec = dataset.element_spec
        pixels = [
            part for key, part in spec.items() if part.dtype in (tf.uint8, tf.uint16) and (part.shape.rank or 0) >= 3
        ]
        strings = [part for part in spec.values() if part.dtype == tf.string]
        if any(part.shape.rank == 4 for part in pixels) or (
            not pixels and any(part.shape.rank == 1 for part in strings)
        ):
            dataset = dataset.unbatch()
        floats = [key for key, part in spec.items() if part.dtype.is_floating and (part.shape.rank or 0) >= 3]
        if floats:
            raise UserError(
                f"data: {floats[0]} of the Dataset {name} is {spec[floats[0]].dtype.name}; pictures are uint8, from 0 to 255."
            )
        self._dataset = dataset.map(_encoded).map(_flat)
        self.columns: Sequence[str] = sorted(spec)
        first = next(self.rows(self.columns), None)
        if first is None:
            raise UserError(f"data: the Dataset {name} holds no examples.")
        self.first: Sequence[Any] = first[1]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields number from 1 and wanted parts of each example."""
        for number, example in enumerate(self._dataset.as_numpy_iterator(), 1):
            yield number, [_plain(example[key]) for key in wanted]


def _encoded(example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an example with its pictures as PNG files, which lose nothing."""
    import tensorflow as tf

    return {
        key: tf.io.encode_png(value) if value.shape.rank == 3 and value.dtype in (tf.uint8, tf.uint16) else value
        for key, value in example.items()
    }


def _flat(example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an example with numbers in place of vectors of one number, as Keras' `label_mode="binary"` has them."""
    return {
        key: value[0] if value.shape == (1,) and (value.dtype.is_floating or value.dtype.is_integer) else value
        for key, value in example.items()
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, bytes) else value.tolist()
