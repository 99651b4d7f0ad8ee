"""OpenVINO, on a CPU."""

import functools
import importlib.metadata
import queue
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

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """Returns also bfloat16 where the CPU has instructions for it."""
        try:
            able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except Exception:  # an installation that is broken says so when it compiles, and another engine runs
            return ("float32",)
        return ("float32", "bfloat16") if "BF16" in able else ("float32",)

    def compile(self, graph: Any, *, precision: str, threads: int, at_a_time: int = 1) -> Run:
        """Returns the graph, compiled for the CPU."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.pb"
            path.write_bytes(graph.graph.as_graph_def().SerializeToString())
            model = _core().read_model(path)
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads,
        }
        if at_a_time == 1:
            options["PERFORMANCE_HINT"] = "LATENCY"  # all threads on one batch
        else:
            # A thread a batch: threads that wait for each other stand still when decoding takes one's core (184 pictures a
            # second on 2 cores; else 92 or 182, by chance).
            options["NUM_STREAMS"] = min(threads, at_a_time)
        compiled = _core().compile_model(model, "CPU", options)
        # The reader sorts by nothing in particular, and it gives one port all the names of tensors that are equal.
        places = [self._place(compiled.inputs, tensor.name) for tensor in graph.inputs]
        outputs = [compiled.outputs[self._place(compiled.outputs, tensor.name)] for tensor in graph.outputs]
        dtypes = [tensor.dtype.as_numpy_dtype for tensor in graph.outputs]

        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(at_a_time):
            free.put(compiled.create_infer_request())

        def run(inputs: Any) -> Any:
            request = free.get()
            try:
                answer = request.infer(dict(zip(places, inputs, strict=True)))
                return [
                    answer[port].astype(dtype) for port, dtype in zip(outputs, dtypes, strict=True)
                ]  # copies: reused
            finally:
                free.put(request)

        return run

    @staticmethod
    def _place(ports: Any, name: str) -> int:
        return next(k for k, port in enumerate(ports) if name in port.names)


@functools.cache
def _core() -> Any:
    """Returns the one Core of this process.

    It keeps the CPU plugin's library loaded: a Core that goes away unloads it, at times under a thread of OpenVINO's own
    (https://github.com/nnstreamer/nnstreamer/issues/5018), which ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()
