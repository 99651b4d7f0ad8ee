"""TensorProto to arrays and back, for messages from anybody.

TensorFlow's own `make_ndarray` repeats a single value as often as the shape says, so that 30 bytes can ask for all the
memory; here the shape must be paid for in bytes, but for what the size limit of a request allows.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.server.refusal import invalid

_NUMBERS = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.bool)
_WHOLE = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64)
_ALLOWED = {dtype.as_datatype_enum: dtype for dtype in (*_NUMBERS, *_WHOLE, tf.string)}


def to_array(proto: Any, name: str, *, most_bytes: int) -> np.ndarray:
    """Returns the array; strings as `bytes` objects.

    Args:
        proto: a TensorProto.
        name: of the input, for sentences.
        most_bytes: that the array may have.

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
        made = np.empty(size, object)
        made[:] = list(proto.string_val)
        return made.reshape(shape)
    if size * dtype.size > most_bytes:
        raise invalid(f"input {name} is larger than a request may be")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise invalid(f"input {name} has a shape for {size} values, and others") from error
