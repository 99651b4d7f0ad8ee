"""Operations are counted as one would by hand."""

import keras
import pytest
import tensorflow as tf

from tfpt.training import flops
from tfpt.training.flops import TERA, UnknownShapeError, count, of_an_element, peak


def spec(*shape):
    return tf.TensorSpec(shape, tf.float32)


@pytest.mark.parametrize(
    ("function", "shapes", "products"),
    [
        (lambda a, b: a @ b, [(2, 3), (3, 5)], 2 * 3 * 5),
        (lambda a, b: tf.matmul(a, b, transpose_a=True), [(3, 2), (3, 5)], 2 * 3 * 5),
        (lambda a, b: tf.matmul(a, b, transpose_b=True), [(7, 2, 3), (7, 5, 3)], 7 * 2 * 3 * 5),
        (lambda a, b: tf.einsum("abc,cde->abde", a, b), [(2, 3, 5), (5, 7, 11)], 2 * 3 * 5 * 7 * 11),
        (lambda a, b: tf.einsum("...x,xy->...y", a, b), [(2, 3, 5), (5, 7)], 2 * 3 * 5 * 7),
        (lambda a: tf.einsum("ab->ba", a), [(2, 3)], 0),
        (lambda a, b: tf.nn.conv2d(a, b, 2, "SAME"), [(2, 8, 8, 3), (5, 5, 3, 4)], 2 * 4 * 4 * 4 * 5 * 5 * 3),
        (
            lambda a, b: tf.nn.depthwise_conv2d(a, b, [1, 1, 1, 1], "VALID"),
            [(2, 8, 8, 3), (3, 3, 3, 1)],
            2 * 6 * 6 * 3 * 3 * 3,
        ),
        (lambda a: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x @ x), (0, a))[1], [(4, 4)], 4**3),
        (lambda a: tf.cond(tf.reduce_sum(a) > 0, lambda: a @ a, lambda: a), [(4, 4)], 4**3),
        (lambda a: tf.function(lambda x: x @ x)(a), [(4, 4)], 4**3),
        (lambda a: tf.nn.relu(a) + 1, [(4, 4)], 0),
    ],
)
def test_products_are_counted(function, shapes, products):
    assert count(function, *(spec(*shape) for shape in shapes)) == 2 * products


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_convolutions_gradients_take_as_much_as_itself_each(depthwise):
    layer = (
        keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)
        if depthwise
        else keras.layers.Conv2D(4, 3, padding="same", use_bias=False)
    )
    layer.build((2, 8, 8, 3))

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, layer.trainable_variables[0].value])

    forwards = count(lambda x: layer(x), spec(2, 8, 8, 3))
    assert forwards == 2 * 2 * 8 * 8 * 9 * (3 if depthwise else 3 * 4)
    assert count(gradients, spec(2, 8, 8, 3)) == 3 * forwards


def test_an_update_of_a_dense_network_is_six_operations_a_weight_and_example():
    model = keras.Sequential([keras.Input((8,)), *(keras.layers.Dense(8, use_bias=False) for _ in range(4))])
    values = [v.value for v in model.trainable_variables]

    def gradients(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(batch["inputs"]) ** 2)
        return tape.gradient(loss, values)

    batch = {
        "inputs": spec(None, 8),
        "example": tf.TensorSpec((None,), tf.int64),
        "ok": tf.TensorSpec((None,), tf.bool),
    }
    found = of_an_element(gradients, batch, batch=2, length=None) * 8
    assert found == 6 * 4 * 64 - 2 * 64  # nobody wants the gradient of the inputs


def test_a_length_that_varies_stands_for_itself_or_nothing_is_counted():
    kernel = tf.Variable(tf.ones((8, 8)))

    def gradients(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((batch["inputs"] @ kernel) ** 2)
        return tape.gradient(loss, [kernel])

    varying = {"inputs": spec(None, None, 8)}
    assert of_an_element(gradients, varying, batch=2, length=5) * 8 == 2 * 2 * 64
    assert of_an_element(gradients, varying, batch=2, length=None) == 0.0


def test_a_shape_that_is_not_known_is_said():
    with pytest.raises(UnknownShapeError, match="has the shape"):
        count(lambda a: a @ tf.transpose(a), spec(None, 3))
    with pytest.raises(UnknownShapeError, match="has the shape"):
        count(lambda a, b: a @ b, spec(2, None), spec(None, 3))


@pytest.mark.parametrize(
    ("device", "precision", "teras"),
    [
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312),
        ("one of 4 NVIDIA A100-SXM4-40GB", "float32", 156),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA A10G", "bfloat16", 0),
        ("Tesla T4", "float16", 65),
        ("the CPU (2 cores)", "float32", 0),
    ],
)
def test_what_a_device_could_do(device, precision, teras):
    assert peak(device, precision=precision) == teras * TERA
    assert all(half >= full for half, full in flops.PEAKS.values())
