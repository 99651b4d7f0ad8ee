"""Datasets without tf.data's tuner."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def untuned(dataset: "tf.data.Dataset", *, rewritten: bool = True) -> "tf.data.Dataset":
    """Returns a dataset whose end does not wait for the tuner.

    The tuner sleeps for 10 ms, then 20, 40 and so on, and an iterator that ends waits until it wakes: a pass of 1.5 s took 2.7. All
    of tfpt's pipelines say themselves how much they do at a time, so there is nothing to tune.

    Args:
        dataset: what is meant.
        rewritten: whether tf.data may rewrite it, too. That makes what decodes pictures start 0.2 s sooner, but copies every tensor that
            a function captures.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = rewritten
    return dataset.with_options(options)
