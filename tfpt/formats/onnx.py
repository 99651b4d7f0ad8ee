"""ONNX (`.onnx`), which ONNX Runtime and many other engines read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.formats import Format, Run
from tfpt.startup import quiet_import

if TYPE_CHECKING:
    import numpy as np

    from tfpt.serving.servable import Servable

OPSET = 17
"""The version of ONNX's operators: the last that tf2onnx 1.17 was made for without reservation is 18."""


class Onnx(Format):
    """ONNX, by tf2onnx. Texts may have any length."""

    file = "model.onnx"
    tolerance = 1e-4
    packages = ("tf2onnx", "onnxruntime")
    extra = "onnx"

    def write(self, servable: "Servable", bundle: Path, file: Path) -> None:
        """Converts the bundle; the arithmetic stays float32."""
        import tf2onnx

        from tfpt.formats._numbers import numbers_in_and_out

        function, _ = numbers_in_and_out(servable, bundle, fixed_lengths=False)
        try:
            with quiet_import():
                tf2onnx.convert.from_function(
                    function,
                    input_signature=function.input_signature,
                    opset=OPSET,
                    custom_op_handlers={"Erfc": (_complementary_error_function, [])},
                    output_path=str(file),
                )
            self.open(file, threads=1)  # what the converter writes is not always a graph that can be run
        except Exception as error:  # as for LiteRT
            raise UserError(
                f"This model cannot be written as ONNX ({str(error)[:300]}); leave onnx out of --export.formats."
            ) from error

    def open(self, file: Path, *, threads: int) -> Run:
        """Returns the file's function, run by ONNX Runtime on the CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        dtypes = {
            one.name: {"tensor(float)": "float32", "tensor(int32)": "int32"}[one.type] for one in session.get_inputs()
        }
        outputs = [one.name for one in session.get_outputs()]

        def run(given: Mapping[str, "np.ndarray"]) -> "dict[str, np.ndarray]":
            ready = {name: given[name].astype(dtype, copy=False) for name, dtype in dtypes.items()}
            return dict(zip(outputs, session.run(outputs, ready), strict=True))

        return run


def _complementary_error_function(graph: Any, node: Any, name: str, args: Any) -> None:
    """Writes TensorFlow's Erfc, which the exact GELU of Keras takes and ONNX has not, as 1 - Erf."""
    import numpy as np
    from tf2onnx import utils

    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    one = graph.make_const(utils.make_name(name), np.array(1, utils.map_onnx_to_numpy_type(dtypes[0])))
    erf = graph.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
    graph.remove_node(name)
    graph.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)
