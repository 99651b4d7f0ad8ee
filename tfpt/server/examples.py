"""The methods Classify and Regress: features of examples in, classes with scores or one number each out.

TensorFlow Serving's own signatures for them take serialised `tf.Example`s; such a signature gets them. A signature with one input
for each raw feature (`serving_default` of an image classifier: `image`) gets the feature of that name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpt.server.model import CLASSES, DEFAULT, SCORES
from tfpt.server.refusal import Code, Refusal, invalid
from tfpt.server.signature import STRING, Signature, Values, check_count

_NUMBER = 8
"""Bytes that a number counts as."""
_VALUES = ("outputs", "value", "values")
"""What the one number of an example is called."""


def inputs_of(
    examples: Sequence[Mapping[str, Sequence[Any]]], signature: Signature, *, most_bytes: int
) -> dict[str, np.ndarray]:
    """Returns a signature's inputs.

    Args:
        examples: feature -> values (bytes or numbers) each.
        signature: whose inputs.
        most_bytes: that all examples may have, each with a copy of what they share.

    Raises:
        Refusal: a feature is missing, or of another type or length in some examples, or they are too large.
    """
    size = 0
    for example in examples:
        size += _size(example)
        if size > most_bytes:  # not looked at to the end: what they share is counted again and again
            raise Refusal(Code.TOO_LARGE, f"the examples with their context are larger than {most_bytes / 1e6:g} MB")
    if name := signature.examples_input:
        return {name: _objects([_serialised(example) for example in examples])}
    made = {}
    for name, tensor in signature.inputs.items():
        rows = []
        for number, example in enumerate(examples):
            if name not in example:
                raise invalid(f"example {number} has no feature {name}; it has {', '.join(sorted(example))[:200]}")
            rows.append(list(example[name]))
        if len({len(row) for row in rows}) > 1:
            raise invalid(f"feature {name} has a different number of values in some examples")
        if any(isinstance(item, bytes) != (tensor.dtype == STRING) for row in rows for item in row):
            raise invalid(f"feature {name} is not of expected type: {tensor.kind}")
        if tensor.dtype == STRING:
            values = _objects([item for row in rows for item in row]).reshape(len(rows), len(rows[0]))
        else:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    values = np.array(rows, np.float64).astype(tensor.dtype)
            except OverflowError as error:
                raise invalid(f"feature {name} holds a number that does not fit into {tensor.kind}") from error
        scalar = tensor.shape is not None and len(tensor.shape) == 1
        made[name] = values[:, 0] if scalar and values.shape[1] == 1 else values
    return made


def signature_for_classes(signatures: Mapping[str, Signature], name: str) -> str:
    """Returns the name of the signature that Classify uses.

    Raises:
        Refusal: it gives neither classes nor scores.
    """
    return _with_outputs(signatures, name, (CLASSES, SCORES), "Classify")


def signature_for_values(signatures: Mapping[str, Signature], name: str) -> str:
    """Returns the name of the signature that Regress uses.

    Raises:
        Refusal: it gives no number.
    """
    return _with_outputs(signatures, name, _VALUES, "Regress")


def _with_outputs(signatures: Mapping[str, Signature], name: str, wanted: tuple[str, ...], method: str) -> str:
    name = name or DEFAULT
    signature = signatures.get(name)
    if signature is not None and not set(wanted) & set(signature.outputs):
        raise invalid(
            f"Signature {name} gives {', '.join(sorted(signature.outputs))}; {method} needs {' or '.join(wanted)}."
        )
    return name


def classes_of(answers: Values) -> list[list[tuple[str, float]]]:
    """Returns pairs of class and score for each example; an empty name, or 0, where the model gives only one of them."""
    some = answers[CLASSES] if CLASSES in answers else answers[SCORES]
    rows, columns = some.shape[0], some.reshape(len(some), -1).shape[1]
    names = answers.get(CLASSES, _objects([b""] * (rows * columns))).reshape(rows, columns)
    scores = answers.get(SCORES, np.zeros([rows, columns], np.float32)).reshape(rows, columns)
    return [
        [(name.decode("utf-8", "replace"), float(score)) for name, score in zip(*row, strict=True)]
        for row in zip(names, scores, strict=True)
    ]


def values_of(answers: Values) -> list[float]:
    """Returns one number for each example.

    Raises:
        Refusal: the model gives several.
    """
    values = next(answers[name] for name in _VALUES if name in answers)
    if values.size != len(values):
        raise invalid(f"the model gives {values.size // len(values)} numbers for each example; ask with Predict")
    return [float(value) for value in values.reshape(-1)]


def of_input(sent: Any, *, most: int) -> list[dict[str, list[Any]]]:
    """Returns the examples of TensorFlow Serving's `Input` message: feature -> values each.

    Args:
        sent: the message.
        most: examples that there may be.

    Raises:
        Refusal: there are none, or too many.
    """
    shares = sent.WhichOneof("kind") == "example_list_with_context"
    examples = (sent.example_list_with_context if shares else sent.example_list).examples
    if not examples:
        raise invalid("Input is empty.")
    check_count(len(examples), most=most)
    context = _features(sent.example_list_with_context.context) if shares else {}
    return [{**context, **_features(example)} for example in examples]


def _size(example: Mapping[str, Sequence[Any]]) -> int:
    """Returns the bytes of an example, about."""
    return sum(
        len(name) + sum(len(item) if isinstance(item, bytes) else 0 for item in values) + _NUMBER * len(values)
        for name, values in example.items()
    )


def _features(example: Any) -> dict[str, list[Any]]:
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


def _serialised(features: Mapping[str, Sequence[Any]]) -> bytes:
    import tensorflow as tf

    example = tf.train.Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if all(isinstance(value, bytes) for value in values):
            feature.bytes_list.value.extend(values)
        elif all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            _extend(feature.int64_list.value, values, name)
        elif any(isinstance(value, bytes) for value in values):
            raise invalid(f"feature {name} holds numbers and strings")
        else:
            _extend(feature.float_list.value, values, name)
    return example.SerializeToString()


def _extend(into: Any, values: Sequence[Any], name: str) -> None:
    try:
        into.extend(values)
    except (ValueError, OverflowError) as error:
        raise invalid(f"feature {name} holds a number that is too large") from error


def _objects(values: Sequence[Any]) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made
