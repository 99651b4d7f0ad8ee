"""TensorFlow itself, with constants folded."""

from typing import Any

from tfpt.engines import Engine, Run
from tfpt.errors import UserError


class Tensorflow(Engine):
    """The graph as it is; weights are constants, so that normalisation folds into convolutions. XLA on a GPU."""

    @classmethod
    def version(cls) -> str:
        """Returns TensorFlow's version."""
        import tensorflow as tf

        return str(tf.__version__)

    def compile(self, graph: Any, *, precision: str, threads: int, at_a_time: int = 1) -> Run:
        """Returns the graph; `threads` are those that TensorFlow was started with, for however many calls."""
        import tensorflow as tf

        if precision != "float32":
            raise UserError(
                f"--runtime.engine_precision={precision}: TensorFlow computes in --train.precision; give that, or "
                "--runtime.engine=openvino."
            )
        whole = all(tensor.shape.is_fully_defined() for tensor in graph.inputs)
        if tf.config.list_physical_devices("GPU") and whole:  # XLA would compile anew for each length
            function = tf.function(graph.function, autograph=False, jit_compile=True)
        else:
            function = graph.function
        return lambda inputs: [output.numpy() for output in tf.nest.flatten(function(*map(tf.constant, inputs)))]
