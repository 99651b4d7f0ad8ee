"""LiteRT (`.tflite`), for phones, browsers and small computers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.errors import UserError
from tfpt.formats import Format, Run
from tfpt.startup import quiet_import

if TYPE_CHECKING:
    import numpy as np

    from tfpt.serving.servable import Servable


class Litert(Format):
    """LiteRT's flat file, once called TensorFlow Lite. Texts have a fixed length there; shorter ones have zeros behind."""

    file = "model.tflite"
    tolerance = 1e-4
    packages = ("ai_edge_litert",)
    extra = "edge"

    def write(self, servable: "Servable", bundle: Path, file: Path) -> None:
        """Converts the bundle; the arithmetic stays float32."""
        file.write_bytes(convert(servable, bundle))

    def open(self, file: Path, *, threads: int) -> Run:
        """Returns the file's function, run by the LiteRT interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(file), num_threads=threads)
        (signature,) = interpreter.get_signature_list()
        runner = interpreter.get_signature_runner(signature)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        shapes: dict[str, tuple[int, ...]] = {}

        def run(given: Mapping[str, "np.ndarray"]) -> "dict[str, np.ndarray]":
            ready = {name: fitted(given[name], details) for name, details in inputs.items()}
            if shapes != {name: value.shape for name, value in ready.items()}:
                for name, value in ready.items():
                    shapes[name] = value.shape
                    interpreter.resize_tensor_input(inputs[name]["index"], value.shape, strict=True)
                with quiet_import():  # XNNPACK says that it is there
                    interpreter.allocate_tensors()
            for name, value in ready.items():
                interpreter.set_tensor(inputs[name]["index"], value)
            interpreter.invoke()
            return {
                name: _in_float(interpreter.get_tensor(details["index"]), details) for name, details in outputs.items()
            }

        return run


def convert(servable: "Servable", bundle: Path, *, float16: bool = False) -> bytes:
    """Returns a bundle as a LiteRT file.

    Args:
        servable: says how answers are made.
        bundle: its version folder.
        float16: keep weights in 16 bits; the arithmetic stays float32.

    Raises:
        UserError: the converter does not know an operation.
    """
    import tensorflow as tf

    from tfpt.formats._numbers import numbers_in_and_out

    function, holder = numbers_in_and_out(servable, bundle, fixed_lengths=True)
    try:
        with quiet_import():
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], holder)
            if float16:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
    except Exception as error:  # the converter has no class of its own for what it cannot do
        reason = next((line for line in str(error).splitlines() if "error:" in line), str(error)).strip()
        raise UserError(
            f"This model cannot be converted to LiteRT ({reason[:300]}), which --export.formats=litert and --compress=quantize need."
        ) from error


def _in_float(values: "np.ndarray", details: Mapping[str, Any]) -> "np.ndarray":
    """Returns values of a quantised output as the numbers that they stand for."""
    scale, zero_point = details["quantization"]
    return (values.astype("float32") - zero_point) * scale if scale else values


def fitted(values: "np.ndarray", details: Mapping[str, "np.ndarray"]) -> "np.ndarray":
    """Returns values in the type of a file's input, with zeros behind up to its fixed dimensions.

    Args:
        values: `[batch, ...]`.
        details: of the input, as the interpreter tells them.
    """
    import numpy as np

    wanted = [size if size >= 0 else here for here, size in zip(values.shape, details["shape_signature"], strict=True)]
    values = values.astype(details["dtype"], copy=False)
    missing = [(0, size - here) for here, size in zip(values.shape, wanted, strict=True)]
    return np.pad(values, missing) if any(after for _, after in missing) else values
