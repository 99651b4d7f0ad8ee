import gc

import numpy as np
import pytest
import tensorflow as tf

from tfpt.training.in_place import empty, in_place

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 3), (7,), (0, 2)])
def test_the_tensor_is_the_array(dtype, shape):
    values = empty(shape, np.dtype(tf.as_dtype(dtype).as_numpy_dtype))
    values[...] = 1
    same = values[:]
    tensor = in_place(values)
    assert tensor.dtype == dtype
    assert tensor.shape == shape
    assert tensor.device.endswith("CPU:0")
    assert not values.size or not values.flags.writeable
    same[:1] = 0  # nobody does this; it shows that there is no copy
    np.testing.assert_array_equal(tensor.numpy(), values)


def test_the_memory_stays_while_a_function_reads_it():
    def reading():
        values = empty((1000, 70), np.dtype("float32"))
        values[...] = np.arange(1000)[:, None]
        tensor = in_place(values)
        return tf.function(lambda slot: tf.gather(tensor, slot)).get_concrete_function(tf.TensorSpec((), tf.int64))

    read = reading()
    gc.collect()
    others = [np.full((1000, 70), -1, np.float32) for _ in range(4)]  # would take the memory, were it free
    np.testing.assert_array_equal(read(tf.constant(500, tf.int64)), np.full(70, 500))
    assert len(others) == 4


@pytest.mark.parametrize("spoil", ["start", "order", "locked", "kind"])
def test_another_array_is_copied(spoil):
    values = empty((8, 8), np.dtype("float32"))
    values[...] = np.arange(64).reshape(8, 8)
    if spoil == "start":
        values = values.reshape(-1)[1:]
    elif spoil == "order":
        values = values.T
    elif spoil == "kind":
        values = values.astype(tf.dtypes.experimental.float8_e5m2.as_numpy_dtype)
    same = values[:]
    values.flags.writeable = spoil != "locked"
    before, tensor = values.copy(), in_place(values)
    same[:] = 0
    np.testing.assert_array_equal(tensor.numpy(), before)
    if spoil != "kind":
        np.testing.assert_array_equal(
            tf.gather(tensor, [5]), before[[5]]
        )  # ends the process where memory is not aligned


def test_strings_are_copied():
    values = empty((2,), np.dtype(object))
    values[:] = [b"a", "ü".encode()]
    assert in_place(values).numpy().tolist() == [b"a", "ü".encode()]
