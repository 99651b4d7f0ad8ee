"""What runs a part of a model that is not being trained, or a whole one between epochs, as fast as the machine can, one file each.

An engine gets a graph whose weights are constants, or become that, and returns a function of batches. This file holds the signature.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Run = Callable[[Sequence[Any]], "list[np.ndarray]"]
"""From the inputs of a batch, flattened, to its outputs, flattened."""

Refresh = Callable[[Sequence["np.ndarray"]], Run]
"""From values of a graph's weights to the function that it is with them."""


class Engine:
    """Compiles and runs graphs."""

    extra: str = ""
    """The extra of tfpt that brings it (`cpu-fast`); empty where tfpt always has it."""

    @classmethod
    def version(cls) -> str:
        """Returns what is installed; empty where it is not, or does not run on this machine's devices."""
        raise NotImplementedError

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """Returns the arithmetics that this machine has for it; float32 first."""
        return ("float32",)

    def compile(self, graph: Any, *, precision: str, threads: int, at_a_time: int = 1) -> Run:
        """Returns the function that a graph is.

        Args:
            graph: `_frozen.Frozen`: a GraphDef without variables and, when it is asked for, the function; the batch size is fixed,
                lengths may vary.
            precision: `float32`: as the graph says; `bfloat16`: rounded to that inside, outputs as the graph says.
            threads: CPU threads.
            at_a_time: how many calls of the function may run side by side; 1: all threads are for one.

        Raises:
            UserError: it does not have the precision.
            Exception: anything, where it does not know an operation of the graph.
        """
        raise NotImplementedError

    def prepare(self, graph: Any, *, weights: int, precision: str, threads: int, at_a_time: int = 1) -> Refresh | None:
        """Returns what compiles a graph for new values of its weights in much less time than `compile` takes.

        The function that comes of it is called from TensorFlow's threads and must not wait for them: it calls no graph.

        Args:
            graph: likewise; its first inputs are weights.
            weights: how many of its inputs are.
            precision: as in `compile`; a graph that trains in bfloat16 is computed as if it were float32, then rounded as asked.
            threads: as in `compile`.
            at_a_time: as in `compile`.

        Returns:
            None where the engine has no such way.

        Raises:
            Exception: anything, where it does not know an operation of the graph.
        """
        return None
