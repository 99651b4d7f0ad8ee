"""What operations on whole batches share: how much of its neighbour an example gets, and its target."""

from typing import Any

from tfpt.errors import UserError


def neighbour_shares(seeds: Any, *, alpha: float, probability: float) -> Any:
    """Returns how much of its neighbour each example gets, `[batch]` float32: from Beta(alpha, alpha), or nothing.

    Args:
        seeds: `[batch, 2]` int32.
        alpha: of the distribution.
        probability: of getting anything.
    """
    import tensorflow as tf

    def draw(seed: Any) -> Any:
        pair = tf.random.stateless_gamma([2], seed, alpha=alpha)
        chosen = tf.random.stateless_uniform([], tf.random.experimental.stateless_fold_in(seed, 1)) < probability
        return tf.where(chosen, tf.math.divide_no_nan(pair[0], pair[0] + pair[1]), 0.0)

    return tf.map_fn(draw, seeds, fn_output_signature=tf.float32)


def check_pictures(inputs: Any, *, op: str) -> None:
    """Refuses inputs that are not pictures alone.

    Raises:
        UserError: one of them cannot be mixed.
    """
    import tensorflow as tf

    for part in tf.nest.flatten(inputs):
        if part.shape.rank < 4 or (part.dtype.is_integer and part.dtype != tf.uint8):
            raise UserError(
                f"--input.augment: {op} mixes pictures, and this task is fed with more than these; leave it out."
            )


def with_neighbour(values: Any, share: Any) -> Any:
    """Returns each example with a share of the one before it in the batch, in their own type.

    Args:
        values: `[batch, ...]`, pixels or targets.
        share: `[batch]` float32.
    """
    import tensorflow as tf

    wide = tf.reshape(share, [-1] + [1] * (values.shape.rank - 1))
    own = tf.cast(values, tf.float32)
    mixed = own + wide * (tf.roll(own, 1, axis=0) - own)
    return tf.cast(tf.round(mixed) if values.dtype.is_integer else mixed, values.dtype)


def mixed_targets(targets: Any, share: Any, *, op: str) -> Any:
    """Returns targets with a share of the neighbour's.

    Raises:
        UserError: the task has no targets that can be mixed.
    """
    import tensorflow as tf

    parts = tf.nest.flatten(targets)
    if targets is None or any(part.dtype.is_integer for part in parts):
        raise UserError(f"--input.augment: {op} mixes targets, and this task has none that are shares; leave it out.")
    return tf.nest.map_structure(lambda part: with_neighbour(part, share), targets)
