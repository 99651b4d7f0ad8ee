"""The bundle itself, as TensorFlow reads it."""

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tfpt import registry, startup
from tfpt.formats import Format, Run

if TYPE_CHECKING:
    from tfpt.serving.servable import Servable


class SavedModel(Format):
    """TensorFlow's SavedModel, which a bundle always is."""

    file = ""
    tolerance = 0.0
    alone = False

    def write(self, servable: "Servable", bundle: Path, file: Path) -> None:
        """Does nothing: it is there."""

    def open(self, file: Path, *, threads: int) -> Run:
        """Returns the signature `outputs` of a version folder."""
        startup.start_tensorflow(threads)
        import tensorflow as tf

        described = json.loads((file / "assets.extra" / "tfpt.json").read_text(encoding="utf-8"))
        for kind, settings in described["preprocessors"].values():
            for library in registry.find("preprocessor", kind).from_json(settings).libraries:
                importlib.import_module(library)  # TensorFlow must know the operations of the host half
        loaded = tf.saved_model.load(str(file))
        signature = loaded.signatures["outputs"]
        dtypes = {name: spec.dtype for name, spec in signature.structured_input_signature[1].items()}

        def run(inputs):  # type: ignore[no-untyped-def]
            given = {name: tf.constant(inputs[name], dtype) for name, dtype in dtypes.items()}
            return {name: value.numpy() for name, value in signature(**given).items()}

        run.loaded = loaded  # type: ignore[attr-defined]  # the signature does not hold its variables
        return run
