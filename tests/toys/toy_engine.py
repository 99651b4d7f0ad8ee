"""An engine that computes a graph with TensorFlow's operations, one after the other, with weights that can be put in anew."""

import tensorflow as tf
from tensorflow.python.eager import context, execute

from tfpt.engines import Engine


class ToyEngine(Engine):
    """Has what `prepare` promises."""

    @classmethod
    def version(cls):
        return "1"

    def prepare(self, graph, *, weights, precision, threads, at_a_time=1):
        def refresh(values):
            assert len(values) == weights
            return lambda inputs: computed(graph, [*values, *inputs])

        return refresh


def computed(graph, values):
    """Returns the outputs of a graph. It is not called: a graph waits for TensorFlow's threads, and these wait for an engine."""
    found = {tensor.name: tf.constant(value) for tensor, value in zip(graph.inputs, values, strict=True)}
    for op in graph.graph.get_operations():
        if op.type == "Const":
            found[op.outputs[0].name] = tf.constant(tf.make_ndarray(op.get_attr("value")))
        elif op.type not in ("Placeholder", "NoOp"):
            names = [name for name in op.node_def.attr if not name.startswith("_")]
            attributes = [part for name in names for part in (name, plain(op.get_attr(name)))]
            inputs = [found[tensor.name] for tensor in op.inputs]
            made = execute.execute(op.type, len(op.outputs), inputs, tuple(attributes), context.context())
            found.update((tensor.name, value) for tensor, value in zip(op.outputs, made, strict=True))
    return [found[tensor.name].numpy() for tensor in graph.outputs]


def plain(value):
    """Returns an attribute as operations take it."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if hasattr(value, "unknown_rank"):
        return tf.TensorShape(value)
    return value.as_datatype_enum if isinstance(value, tf.DType) else value
