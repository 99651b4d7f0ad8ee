"""A function's graph with its variables as constants."""

import functools
from typing import Any

from tensorflow.python.framework import convert_to_constants


class Frozen:
    """What engines compile; TensorFlow's own function of it is built when it is first asked for, which takes longest.

    Args:
        concrete: a concrete function.

    Attributes:
        definition: a GraphDef.
        inputs: tensors with their names in it, without variables.
        outputs: likewise.
    """

    def __init__(self, concrete: Any) -> None:
        data = convert_to_constants._FunctionConverterDataInEager(
            func=concrete, lower_control_flow=False, aggressive_inlining=False
        )
        self.definition, self._constants = convert_to_constants._replace_variables_by_constants(converter_data=data)
        captured = concrete.graph.internal_captures
        constants = {id(captured[k]) for k in self._constants}
        self.inputs = [tensor for tensor in concrete.inputs if id(tensor) not in constants]
        self.outputs = concrete.outputs
        self._concrete = concrete

    @functools.cached_property
    def function(self) -> Any:
        """A concrete function."""
        return convert_to_constants._construct_concrete_function(self._concrete, self.definition, self._constants)

    @property
    def graph(self) -> Any:
        """The function's."""
        return self.function.graph

    def __call__(self, *inputs: Any) -> Any:
        """Returns the function's outputs."""
        return self.function(*inputs)
