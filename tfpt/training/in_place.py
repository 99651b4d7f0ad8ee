"""Arrays that TensorFlow reads where they are, so that there is one copy of them."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

ALIGNMENT = 64
"""Bytes; the widest that Eigen, whose kernels read the memory, is built for (EIGEN_MAX_ALIGN_BYTES with AVX-512)."""


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Returns an array that `in_place` need not copy. Its memory is taken as it is written to, where it is large.

    Args:
        shape: of the array.
        dtype: NumPy's.
    """
    if dtype.hasobject:
        return np.empty(shape, dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def in_place(values: np.ndarray) -> tf.Tensor:
    """Returns a tensor, on the CPU, that is the array, which is locked; of an array that was not made by `empty` it is a copy.

    Args:
        values: any shape and dtype.
    """
    # NumPy gives only its own kinds of numbers away, and bfloat16 is none of them.
    plain = values.view(np.uint16) if values.dtype == tf.bfloat16.as_numpy_dtype else values
    numbers = plain.dtype.isbuiltin == 1 and plain.dtype.kind in "biufc"
    aligned = values.flags.c_contiguous and values.ctypes.data % ALIGNMENT == 0  # kernels end the process otherwise
    with tf.device("CPU:0"):
        if not (numbers and aligned and values.flags.writeable):  # NumPy keeps what is locked to itself, too
            return tf.constant(values)
        tensor = tf.experimental.dlpack.from_dlpack(plain.__dlpack__())
        values.flags.writeable = False
        return tensor if plain is values else tf.bitcast(tensor, tf.bfloat16)
