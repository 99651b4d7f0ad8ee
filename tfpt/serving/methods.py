"""Signatures for TensorFlow Serving's methods Classify and Regress, which has names of its own for what goes in and out.

Its exporter writes every signature as one for Predict; which method a signature is for stands in saved_model.pb.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

CLASSIFICATION, REGRESSION = "classification", "regression"
METHODS = {
    CLASSIFICATION: tf.saved_model.CLASSIFY_METHOD_NAME,
    REGRESSION: tf.saved_model.REGRESS_METHOD_NAME,
}
"""Signature -> the method that it is for."""
EXAMPLES = "inputs"
"""What TensorFlow Serving calls the serialised `tf.Example`s of both, `[batch]` strings."""


def outputs_for_methods(answers: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Returns signature -> TensorFlow Serving's name of each output -> the answer's, for the methods that answers allow.

    Classify gives `classes` and `scores`, `[batch, classes]` strings and float32; Regress gives `outputs`, one float32 an example.

    Args:
        answers: by name, whatever has a `shape` and a `dtype`.
    """
    found = {}
    wanted = {"classes": tf.string, "scores": tf.float32}
    rows = [
        n for n, dtype in wanted.items() if n in answers and (answers[n].dtype, answers[n].shape.rank) == (dtype, 2)
    ]
    if rows:
        found[CLASSIFICATION] = {name: name for name in rows}
    numbers = [value for name, value in answers.items() if name == "values" and value.dtype == tf.float32]
    if any(value.shape.rank in (1, 2) and value.shape[1:].as_list() in ([], [1]) for value in numbers):
        found[REGRESSION] = {"outputs": "values"}
    return found


def name_methods(folder: Path) -> None:
    """Writes the methods into the signatures of a SavedModel, and its fingerprint anew."""
    from tensorflow.python.saved_model import fingerprinting_utils

    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    for name in METHODS.keys() & definitions.keys():
        definitions[name].method_name = METHODS[name]
    file.write_bytes(saved.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(folder))
