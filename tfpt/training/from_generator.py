"""Datasets of Python generators, without what they do to the memory of the whole process."""

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_BYTES = 32 * 2**20


def from_generator(generator: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """Returns `tf.data.Dataset.from_generator`, in a process that goes on keeping freed memory for what comes next.

    Args:
        generator: makes an iterator.
        signature: of an element, `tf.TensorSpec` each.
    """
    _keep_freed_memory()
    return tf.data.Dataset.from_generator(generator, output_signature=signature)


@functools.cache
def _keep_freed_memory() -> None:
    """Lets malloc keep blocks of up to 32 MiB, as it does by itself without such a dataset; not where the environment sets it up.

    On Linux the first kernel of `from_generator` sets glibc's M_MMAP_THRESHOLD to 128 KiB for good (ApplyPython311MemoryPatch, TensorFlow
    2.21, against fragmented memory: its issues 60659 and 65675). From then on each larger block is a mapping of its own, whose pages the
    system must clear. oneDNN's products take one each time: 96,000 page faults for 872 sentences, a tenth of the time. The first kernel is
    made here, so that what is set afterwards stays. The numbers are the most that glibc comes to by itself (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    next(iter(tf.data.Dataset.from_generator(lambda: iter([0]), output_signature=tf.TensorSpec((), tf.int32))))
    mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
    mallopt(_TRIM_THRESHOLD, 2 * _MMAP_BYTES)
