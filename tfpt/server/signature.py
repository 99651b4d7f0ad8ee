"""What a signature of a bundle takes and gives, and whether values fit it."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from tfpt.server.refusal import invalid
from tfpt.serving.methods import CLASSIFICATION, REGRESSION

Values = Mapping[str, np.ndarray]
"""Arrays by input or output name; strings are arrays of `bytes` objects."""

STRING = np.dtype(object)

_OF_EXAMPLES = ("examples", CLASSIFICATION, REGRESSION)
"""A bundle's signatures whose input is serialised `tf.Example`s."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        dtype: of its elements; `STRING` for strings.
        shape: with None for what varies, or None when even the rank does.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None

    @property
    def kind(self) -> str:
        """The element type as TensorFlow calls it."""
        return "string" if self.dtype == STRING else self.dtype.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature.

    Attributes:
        name: as clients give it.
        inputs: by name.
        outputs: by name.
        longest: the largest size of each input dimension that varies, but for the first; None: any.
        most: the largest product of these sizes; None: any.
    """

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    longest: int | None = None
    most: int | None = None

    @classmethod
    def of(cls, name: str, function: Any, *, longest: int | None = None, most: int | None = None) -> "Signature":
        """Reads a signature function of a loaded SavedModel."""
        _, inputs = function.structured_input_signature
        outputs = _tensors(function.structured_outputs)
        return cls(name=name, inputs=_tensors(inputs), outputs=outputs, longest=longest, most=most)

    @property
    def answers_vary(self) -> bool:
        """Whether an output has a size that depends on the examples of a batch."""
        return any(tensor.shape is None or None in tensor.shape[1:] for tensor in self.outputs.values())

    @property
    def examples_input(self) -> str:
        """The name of the input for serialised `tf.Example`s; empty where there is none."""
        return next(iter(self.inputs)) if self.name in _OF_EXAMPLES else ""

    def checked(self, values: Values, *, most_examples: int) -> int:
        """Returns the number of examples.

        Raises:
            Refusal: names, types, shapes or numbers of examples do not fit.
        """
        extra, missing = sorted(set(values) - set(self.inputs)), sorted(set(self.inputs) - set(values))
        if extra or missing:
            raise invalid(
                f"input size does not match signature: {len(values)}!={len(self.inputs)}. "
                f"Sent extra: {{{','.join(extra)[:200]}}}. Missing but required: {{{','.join(missing)}}}."
            )
        for name, value in values.items():
            self._check_one(name, value)
        lengths = {len(value) for value in values.values()}
        if len(lengths) > 1:
            raise invalid("the inputs have different numbers of examples")
        (length,) = lengths
        check_count(length, most=most_examples)
        return length

    def _check_one(self, name: str, value: np.ndarray) -> None:
        wanted = self.inputs[name]
        if value.dtype != wanted.dtype:
            raise invalid(f"input {name} is {Tensor(value.dtype, ()).kind}, not {wanted.kind}")
        if wanted.shape is None:
            return
        fits = value.ndim == len(wanted.shape) and value.ndim > 0
        if not fits or any(w not in (None, got) for w, got in zip(wanted.shape, value.shape, strict=True)):
            shape = ",".join("?" if size is None else str(size) for size in wanted.shape)
            raise invalid(f"input {name} has the shape [{','.join(map(str, value.shape))}], not [{shape}]")
        varying = [got for w, got in zip(wanted.shape[1:], value.shape[1:], strict=True) if w is None]
        shape = ",".join(map(str, value.shape))
        if 0 in varying or (self.longest and any(size > self.longest for size in varying)):
            raise invalid(f"input {name} has the shape [{shape}]; sizes may be 1 to {self.longest or 'any'}")
        if self.most and math.prod(varying) > self.most:
            raise invalid(f"input {name} has the shape [{shape}]; that is more than {self.most} pixels an example")


def check_count(examples: int, *, most: int) -> None:
    """Refuses a request of no examples, or of too many.

    Raises:
        Refusal: so it is.
    """
    if not 1 <= examples <= most:
        raise invalid(f"{examples} examples were sent; a request may have 1 to {most}")


def definitions(folder: Path) -> get_model_metadata_pb2.SignatureDefMap:
    """Returns the signatures of a bundle as its file holds them."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in saved.meta_graphs[0].signature_def.items():
        if not name.startswith("__"):
            found.signature_def[name].CopyFrom(definition)
    return found


def _tensors(specs: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {}
    for name, spec in specs.items():
        dtype = STRING if spec.dtype.name == "string" else np.dtype(spec.dtype.as_numpy_dtype)
        found[name] = Tensor(dtype, None if spec.shape.rank is None else tuple(spec.shape))
    return found
