"""OpenVINO, on a CPU."""

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

from tfpt.engines import Engine, Run


class Openvino(Engine):
    """OpenVINO's CPU plugin (https://docs.openvino.ai), which reads TensorFlow graphs."""

    extra = "cpu-fast"

    @classmethod
    def version(cls) -> str:
        """Returns the package's version; none beside a GPU, which is faster."""
        import tensorflow as tf

        try:
            found = importlib.metadata.version("openvino")
        except importlib.metadata.PackageNotFoundError:
            return ""
        return "" if tf.config.list_physical_devices("GPU") else found

    def compile(self, graph: Any, *, precision: str, threads: int) -> Run:
        """Returns the graph, compiled for the CPU."""
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.pb"
            path.write_bytes(graph.graph.as_graph_def().SerializeToString())
            model = openvino.Core().read_model(path)
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch
        }
        compiled = openvino.Core().compile_model(model, "CPU", options)
        # The reader sorts by nothing in particular, and it gives one port all the names of tensors that are equal.
        places = [self._place(compiled.inputs, tensor.name) for tensor in graph.inputs]
        outputs = [compiled.outputs[self._place(compiled.outputs, tensor.name)] for tensor in graph.outputs]
        dtypes = [tensor.dtype.as_numpy_dtype for tensor in graph.outputs]

        def run(inputs: Any) -> Any:
            answer = compiled(dict(zip(places, inputs, strict=True)))
            return [answer[port].astype(dtype) for port, dtype in zip(outputs, dtypes, strict=True)]  # copies: reused

        return run

    @staticmethod
    def _place(ports: Any, name: str) -> int:
        return next(k for k, port in enumerate(ports) if name in port.names)
