"""Quantisation: weights, and with int8 what flows between layers, too, in fewer bits."""

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.compression import Compression, Options
from tfpt.formats.litert import convert, fitted
from tfpt.startup import quiet_import

if TYPE_CHECKING:
    import numpy as np

    from tfpt.compression._subject import Subject
    from tfpt.console import Console


FLOAT16_TOLERANCE = 0.1
"""A weight of 16 bits is off by up to 0.0005 of itself, and layers add that up: 0.011 and 0.014 in two EfficientNet-Lite0. With 8 bits
outputs are meant to differ."""


class Quantize(Compression):
    """A LiteRT file with fewer bits: `quantize:int8`, `quantize:dynamic` (weights alone in 8 bits), `quantize:float16`.

    By ai-edge-quantizer. int8 scales each channel of a weight by itself, and each tensor between layers by the range that it has
    on examples of the training split (Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018). What goes in stays float32; what comes out has 8 bits, with a scale and a zero point in the file.
    """

    format = "litert"
    packages = ("ai_edge_quantizer",)

    def __init__(self, argument: str = "", options: Options | None = None) -> None:
        super().__init__(argument or "int8", options)
        if self.argument not in self.variants():
            raise self.refuse(f"write quantize:{', quantize:'.join(self.variants())}.")
        self.tolerance = FLOAT16_TOLERANCE if self.argument == "float16" else None

    @classmethod
    def variants(cls) -> tuple[str, ...]:
        """Returns what may stand behind the colon."""
        return ("int8", "dynamic", "float16")

    def write(self, subject: "Subject", file: Path, *, console: "Console") -> None:
        """Writes the quantised `.tflite`."""
        if self.argument == "float16":
            file.write_bytes(convert(subject.servable, subject.bundle, float16=True))
            return
        with quiet_import():
            from ai_edge_quantizer import qtyping, quantizer, recipe
        recipes = {"int8": recipe.static_wi8_ai8, "dynamic": recipe.dynamic_wi8_afp32}
        with tempfile.TemporaryDirectory(prefix="tfpt-quantize-") as folder:
            floats = Path(folder) / "float32.tflite"
            floats.write_bytes(convert(subject.servable, subject.bundle))
            making = quantizer.Quantizer(str(floats), recipes[self.argument]())
            making.update_quantization_recipe(
                ".*", qtyping.TFLOperationName.INPUT, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
            )
            examples = self._calibration(subject, floats) if making.need_calibration else None
            if examples:
                console.say(f"Calibrating on {len(self._examples(subject))} examples of the training split ...")
            with quiet_import(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about keeping all tensors, which is what calibration is
                ranges = making.calibrate(examples, num_threads=subject.prepared.threads) if examples else None
                made = making.quantize(ranges, enable_progress_report=False)
        file.write_bytes(made.quantized_model)

    def _examples(self, subject: "Subject") -> "np.ndarray":
        import numpy as np

        return np.sort(np.random.default_rng(0).permutation(subject.splits.train)[: self.options.calibration_examples])

    def _calibration(self, subject: "Subject", floats: Path) -> dict[str, Any]:
        """Returns training examples, one by one, as the file's signature takes them."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(floats))
        (signature,) = interpreter.get_signature_list()
        inputs = interpreter.get_signature_runner(signature).get_input_details()

        batches = subject.batches(self._examples(subject), batch_size=1)
        return {
            signature: [{name: fitted(values, inputs[name]) for name, values in batch.items()} for batch in batches]
        }
