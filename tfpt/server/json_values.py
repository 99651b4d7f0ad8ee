"""JSON of TensorFlow Serving's REST interface to arrays by input name, and back.

The format is that of tensorflow.org/tfx/serving/api_rest: `instances` (row by row) or `inputs` (column by column), bytes as
`{"b64": "..."}`; NaN, Infinity and -Infinity may stand for numbers.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpt.server.refusal import invalid
from tfpt.server.signature import STRING, Signature, Tensor, Values, check_count

_MOST_DIMENSIONS = 8


def parse(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a request's body.

    Raises:
        Refusal: it is none.
    """
    try:
        parsed = json.loads(body)
    except RecursionError as error:
        raise invalid("JSON Parse error: it is nested too deeply") from error
    except ValueError as error:  # of the syntax, of UTF-8, or of a number with thousands of digits
        raise invalid(f"JSON Parse error: {str(error)[:200]}") from error
    if not isinstance(parsed, dict):
        raise invalid(f"JSON Value: {_shown(parsed)} Is not object")
    return parsed


def signature_name(request: Mapping[str, Any]) -> str:
    """Returns the signature that a request asks for, empty for the default.

    Raises:
        Refusal: it is no text.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(name)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def is_by_row(request: Mapping[str, Any]) -> bool:
    """Returns whether a request for Predict has `instances` and not `inputs`.

    Raises:
        Refusal: it has both or neither.
    """
    if "instances" in request and "inputs" in request:
        raise invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" not in request and "inputs" not in request:
        raise invalid("Missing 'inputs' or 'instances' key")
    return "instances" in request


def inputs_of(request: Mapping[str, Any], signature: Signature) -> dict[str, np.ndarray]:
    """Returns the inputs of a request for Predict.

    Raises:
        Refusal: they are not as the signature wants them.
    """
    if not is_by_row(request):
        return _of_columns(request["inputs"], signature)
    rows = request["instances"]
    if not isinstance(rows, list):
        raise invalid("Expecting 'instances' to be an list/array")
    if not rows:
        raise invalid("No values in 'instances' array")
    return _of_rows(rows, signature)


def _of_rows(rows: Sequence[Any], signature: Signature) -> dict[str, np.ndarray]:
    names = set(signature.inputs)
    if any(_is_named(row) for row in rows) or len(names) > 1:
        for number, row in enumerate(rows):
            if not _is_named(row):
                raise invalid(f"Expecting object but got list at item {number} of input list")
            if set(row) != names:
                raise invalid(
                    f"Failed to process element: {number} of 'instances' list. JSON object: {_shown(row)} keys must be "
                    f"equal to: {','.join(sorted(names))}"
                )
        return {name: array([row[name] for row in rows], signature.inputs[name], name) for name in names}
    (name,) = names
    return {name: array(rows, signature.inputs[name], name)}


def _of_columns(columns: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not _is_named(columns):
        if len(signature.inputs) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required")
        (name,) = signature.inputs
        columns = {name: columns}
    return {
        name: array(value, signature.inputs[name], name) if name in signature.inputs else np.zeros(0)
        for name, value in columns.items()
    }


def _is_named(value: Any) -> bool:
    """Tells an object of inputs by name from one that stands for bytes."""
    return isinstance(value, dict) and set(value) != {"b64"}


def array(value: Any, tensor: Tensor, name: str) -> np.ndarray:
    """Returns nested lists as an array of the tensor's type.

    Raises:
        Refusal: they are ragged, too deep, or hold something else.
    """
    flat, shape = _flat(value, name)
    if tensor.dtype == STRING:
        made = np.empty(len(flat), object)
        made[:] = [_bytes(item) for item in flat]
        return made.reshape(shape)
    # Looked at one by one: NumPy would make room for the longest of what turns out to be texts, in every place.
    allowed = {"f": (int, float), "i": (int,), "u": (int,), "b": (bool,)}.get(tensor.dtype.kind, ())
    wrong = next((item for item in flat if type(item) not in allowed), None)
    made = np.array(flat) if wrong is None else np.zeros(0, object)
    if wrong is not None or made.dtype == object:  # which is also what NumPy makes of numbers beyond 64 bits
        raise invalid(f"JSON Value: {_shown(wrong or value)} is not of expected type: {tensor.kind}")
    with np.errstate(over="ignore"):
        converted = made.astype(tensor.dtype)
    exact = np.isfinite(converted) | ~np.isfinite(made) if tensor.dtype.kind == "f" else converted == made
    if not np.all(exact):
        raise invalid(f"input {name} holds a number that does not fit into {tensor.kind}")
    return converted.reshape(shape)


def _flat(value: Any, name: str) -> tuple[list[Any], list[int]]:
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if len(shape) > _MOST_DIMENSIONS:
            raise invalid(f"input {name} is nested more than {_MOST_DIMENSIONS} deep")
        first = first[0] if first else None
    flat = [value]
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in flat):
            raise invalid(f"input {name} has rows of different lengths: {_shown(value)}")
        flat = [item for part in flat for item in part]
    return flat, shape


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise invalid(f"JSON Value: {_shown(value)} holds half a character") from error
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return _unpacked(value["b64"])
    raise invalid(f"JSON Value: {_shown(value)} is not of expected type: string")


def _unpacked(text: str) -> bytes:
    try:
        plain = "".join(text.split()).rstrip("=").encode("ascii")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error) as error:
        raise invalid(f"JSON Value: {_shown(text)} not formatted correctly for base64 data") from error


def examples_of(request: Mapping[str, Any], *, most: int) -> list[dict[str, list[Any]]]:
    """Returns the examples of a request for Classify or Regress: feature -> values (bytes or numbers) each.

    Args:
        request: the JSON object.
        most: examples that there may be.

    Raises:
        Refusal: it holds none, or too many, or they are not objects of values and lists.
    """
    examples, context = request.get("examples"), request.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise invalid("Expecting 'examples' value to be an non-empty list/array")
    check_count(len(examples), most=most)
    found = []
    for example in (context, *examples):
        if not isinstance(example, dict):
            raise invalid(f"Example must be JSON object but got JSON {_shown(example)}")
        lists = {name: value if isinstance(value, list) else [value] for name, value in example.items()}
        found.append({_name(name): [_feature(name, item) for item in values] for name, values in lists.items()})
    shared, *rest = found
    for example in rest:
        if shared.keys() & example.keys():
            raise invalid(f"feature {min(shared.keys() & example.keys())[:100]} is in the context and in an example")
    return [{**shared, **example} for example in rest]


def _name(name: str) -> str:
    _bytes(name)  # half a character is no name that a tf.Example could have
    return name


def _feature(name: str, value: Any) -> Any:
    if isinstance(value, str | dict):
        return _bytes(value)
    if isinstance(value, int | float):
        return value
    raise invalid(f"Unexpected element type in feature: {name[:100]}")


def predictions(answers: Values, *, by_row: bool) -> bytes:
    """Returns the body that answers Predict."""
    plain = {name: _plain(name, value) for name, value in answers.items()}
    if len(plain) == 1:
        return dump({"predictions" if by_row else "outputs": plain.popitem()[1]})
    if not by_row:
        return dump({"outputs": plain})
    columns = zip(*plain.values(), strict=True)
    return dump({"predictions": [dict(zip(plain, row, strict=True)) for row in columns]})


def dump(value: Any) -> bytes:
    """Returns JSON; NaN and infinities as the words that TensorFlow Serving writes.

    Half a character (a lone surrogate), which has no bytes, stays the escape that a client must have sent.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _plain(name: str, value: np.ndarray) -> Any:
    if value.dtype != STRING:
        return value.tolist()
    binary = name.endswith("_bytes")
    flat = [
        {"b64": base64.b64encode(item).decode()} if binary else item.decode("utf-8", "replace") for item in value.flat
    ]
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(value.shape).tolist()


def _shown(value: Any) -> str:
    """Returns the beginning of a value, for a sentence."""
    while isinstance(value, list) and len(value) > 3:
        value = value[:3]
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):
        return "..."
    return text if len(text) <= 80 else f"{text[:80]}..."
