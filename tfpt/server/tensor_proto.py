"""TensorProto to arrays and back, for messages from anybody.

TensorFlow's own `make_ndarray` repeats a single value as often as the shape says, so that 30 bytes can ask for all the
memory; here that is allowed for small arrays only, and all are counted before they are made.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.server.refusal import invalid

_NUMBERS = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.bool)
_WHOLE = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64)
_ALLOWED = {dtype.as_datatype_enum: dtype for dtype in (*_NUMBERS, *_WHOLE, tf.string)}

_REPEATED = 1_000_000
"""Largest array in bytes that may be made of fewer values than it has places."""
_POINTER = 8
"""Bytes that a string's place in an array takes."""


def to_array(proto: Any, name: str, *, most_bytes: int, reserve: Callable[[int], None]) -> np.ndarray:
    """Returns the array; strings as `bytes` objects.

    Args:
        proto: a TensorProto.
        name: of the input, for sentences.
        most_bytes: that the array may have.
        reserve: is told the bytes that the array is about to take; raises where they are too many.

    Raises:
        Refusal: its type is not allowed, or its shape and its content disagree.
    """
    dtype = _ALLOWED.get(proto.dtype)
    if dtype is None:
        raise invalid(f"input {name} has a type that no signature takes")
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or len(shape) > 8 or any(size < 0 for size in shape):
        raise invalid(f"input {name} has no shape of up to 8 known sizes")
    size = math.prod(shape)
    if dtype == tf.string:
        if len(proto.string_val) != size:
            raise invalid(f"input {name} has {len(proto.string_val)} strings, and a shape for {size}")
        reserve(size * _POINTER + proto.ByteSize())
        made = np.empty(size, object)
        made[:] = list(proto.string_val)
    else:
        if size * dtype.size > most_bytes:
            raise invalid(f"input {name} is larger than a request may be")
        if size > proto.ByteSize() and size * dtype.size > _REPEATED:  # a value takes a byte at least
            raise invalid(f"input {name} has a shape for {size} values, and fewer of them")
        reserve(size * dtype.size)
    try:
        return made.reshape(shape) if dtype == tf.string else tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input {name} has a shape for {size} values, and others") from error
