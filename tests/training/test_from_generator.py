"""A dataset of a generator gives what the generator gives, and malloc goes on keeping what was freed."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfpt.training.from_generator import from_generator

FAULTS = """
import ctypes, resource
import tensorflow as tf
from tfpt.training.from_generator import from_generator

assert list(from_generator(lambda: iter([1, 2]), tf.TensorSpec((), tf.int64)).as_numpy_iterator()) == [1, 2]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]


def use(size):
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)


use(2**21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    use(2**21)
print("FAULTS", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_it_gives_what_the_generator_gives():
    made = from_generator(lambda: (np.arange(k) for k in range(3)), tf.TensorSpec((None,), tf.int64))
    assert [list(row) for row in made.as_numpy_iterator()] == [[], [0], [0, 1]]


def faults(**environment):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=plain | environment).stdout
    return int(said.split("FAULTS ")[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
def test_a_block_that_was_freed_is_used_again():
    assert faults() < 2000  # 512 pages a block, 25,600 if each were a mapping of its own
    assert faults(MALLOC_TRIM_THRESHOLD_="65536") > 20_000  # who sets malloc up is let alone
