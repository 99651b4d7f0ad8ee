"""OpenVINO, on a CPU."""

import functools
import importlib.metadata
import queue
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.engines import Engine, Refresh, Run

if TYPE_CHECKING:
    import numpy as np


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
        model = _read(graph.definition)
        return self._run(graph, 0, model, precision=precision, threads=threads, at_a_time=at_a_time)

    def prepare(self, graph: Any, *, weights: int, precision: str, threads: int, at_a_time: int = 1) -> Refresh | None:
        """Returns what puts constants into a copy of the graph that was read, and compiles that.

        With weights that stay inputs nothing could be folded or laid out for the CPU beforehand: it would be as slow as
        TensorFlow.
        """
        import numpy as np
        from openvino import op

        definition = type(graph.definition).FromString(graph.definition.SerializeToString())
        _widen(definition)
        read = _read(definition)
        names = [tensor.name for tensor in graph.inputs[:weights]]

        def refresh(values: "Sequence[np.ndarray]") -> Run:
            model = read.clone()
            parameters = {name: one for one in model.get_parameters() for name in one.output(0).names}
            for name, value in zip(names, values, strict=True):
                if name not in parameters:  # nothing reads it
                    continue
                constant = op.Constant(np.ascontiguousarray(value), shared_memory=True)
                for reader in parameters[name].output(0).get_target_inputs():
                    reader.replace_source_output(constant.output(0))
                model.remove_parameter(parameters[name])
            model.validate_nodes_and_infer_types()
            return self._run(graph, weights, model, precision=precision, threads=threads, at_a_time=at_a_time)

        return refresh

    def _run(self, graph: Any, weights: int, model: Any, *, precision: str, threads: int, at_a_time: int) -> Run:
        """Compiles what was read of a graph whose first inputs are now constants."""
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
        places = [self._place(compiled.inputs, tensor.name) for tensor in graph.inputs[weights:]]
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


def _read(definition: Any) -> Any:
    """Returns OpenVINO's model of a GraphDef."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pb"
        path.write_bytes(definition.SerializeToString())
        return _core().read_model(path)


def _widen(definition: Any) -> None:
    """Makes float32 of all bfloat16 in a GraphDef, whose constants the reader does not know."""
    import tensorflow as tf

    narrow, wide = tf.bfloat16.as_datatype_enum, tf.float32.as_datatype_enum
    functions = definition.library.function
    for argument in (one for f in functions for one in (*f.signature.input_arg, *f.signature.output_arg)):
        if argument.type == narrow:
            argument.type = wide
    for node in (*definition.node, *(one for f in functions for one in f.node_def)):
        for value in node.attr.values():
            if value.type == narrow:
                value.type = wide
            for place, dtype in enumerate(value.list.type):
                if dtype == narrow:
                    value.list.type[place] = wide
            if value.tensor.dtype == narrow:
                value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor).astype("float32")))


@functools.cache
def _core() -> Any:
    """Returns the one Core of this process.

    It keeps the CPU plugin's library loaded: a Core that goes away unloads it, at times under a thread of OpenVINO's own
    (https://github.com/nnstreamer/nnstreamer/issues/5018), which ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()
