"""The part of a bundle that other formats can hold: from the host half's numbers to the model's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfpt.preprocessors import Preprocessor
from tfpt.serving.servable import Servable, unnamed


def numbers_in_and_out(servable: Servable, bundle: Path, *, fixed_lengths: bool) -> tuple[Any, Any]:
    """Returns a function from model inputs to outputs and answers, all of them numbers, and what holds its variables.

    Its inputs are those of the bundle's signature `outputs`: `inputs`, or one by trunk name. Pictures, `[batch, size, size,
    3]`, are float32 from 0 to 255 and are rounded inside, as the host half does; tokens, `[batch, length, 2]`, are int32: the
    token's id + 1 and the number of its text, 0 where there is none. Its outputs are those of the signature, and those answers
    of the task that are numbers (`scores`, `values`).

    Args:
        servable: says how answers are made.
        bundle: its version folder.
        fixed_lengths: let every text be as long as the longest.
    """
    loaded = tf.saved_model.load(str(bundle))
    signature = loaded.signatures["outputs"]
    given = signature.structured_input_signature[1]
    specs = [
        tf.TensorSpec(
            _fixed(spec.shape, _preprocessor(servable.preprocessors, name)) if fixed_lengths else spec.shape,
            tf.float32 if spec.dtype == tf.uint8 else spec.dtype,
            name=name,
        )
        for name, spec in given.items()
    ]

    @tf.function(autograph=False, input_signature=specs)
    def numbers(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {
            name: tf.cast(tf.round(value) if spec.dtype == tf.uint8 else value, spec.dtype)
            for (name, spec), value in zip(given.items(), values, strict=True)
        }
        outputs = signature(**inputs)
        return {**outputs, **_answers(servable, outputs)}

    return numbers, loaded


def _fixed(shape: tf.TensorShape, preprocessor: Preprocessor) -> tf.TensorShape:
    """Returns the shape of tokens with the longest length."""
    if shape.rank != 3 or shape[1] is not None:
        return shape
    return tf.TensorShape([shape[0], preprocessor.size, shape[2]])


def _preprocessor(preprocessors: Mapping[str, Preprocessor], name: str) -> Preprocessor:
    return preprocessors[name] if name in preprocessors else next(iter(preprocessors.values()))


def _answers(servable: Servable, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the answers that are numbers; none where the task makes them of more than the outputs."""
    try:
        answer = servable.task.decode(unnamed(dict(outputs)), {}, servable.state)
    except (LookupError, ValueError):  # it needs to know where in the example something was
        return {}
    kept = servable.task.kept_answers
    return {name: value for name, value in answer.items() if name in kept and value.dtype.is_floating}
