"""A branch of the graph that is seldom taken and costs nothing when it is not."""

import functools
from collections.abc import Callable
from typing import Any


def rare_branch(condition: Any, branch: Callable[[Any], Any], otherwise: Callable[[Any], Any], value: Any) -> Any:
    """Returns `branch(value)` where the condition holds, else `otherwise(value)`; as tf.cond, but for the cost.

    TensorFlow flattens conditionals: each op of a branch that is not taken is still visited, as dead, and 300 of them
    take as long as decoding a small photo. As a function that is not inlined the branch is a single op.

    Args:
        condition: scalar bool tensor.
        branch: the seldom one; many ops.
        otherwise: the usual one; few ops.
        value: the tensor that both take.
    """
    import tensorflow as tf

    value = tf.convert_to_tensor(value)  # a Python value would be baked into the branch and folded while it is traced
    lasts = "<" not in getattr(branch, "__qualname__", "<")  # a module's function holds no tensor of this graph
    apart = (_traced_once if lasts else _traced)(branch)
    return tf.cond(condition, lambda: apart(value), lambda: otherwise(value))


def _traced(branch: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import tensorflow as tf

    return tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})


_traced_once = functools.cache(_traced)
"""A run puts the same branch into some twenty graphs, and tracing its hundreds of ops takes longer than all else in them."""
