"""Datasets that run as they are written."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def untuned(dataset: "tf.data.Dataset") -> "tf.data.Dataset":
    """Returns a dataset that tf.data neither tunes nor rewrites: tfpt's pipelines say themselves how much they do at a time.

    The tuner sleeps for 10 ms, then 20, 40 and so on, and an iterator that ends waits until it wakes: a pass of 1.5 s took 2.7.
    Rewriting takes 75 ms an iterator, and what a function captures is copied for it: 400 MiB of 80,000 kept features, and as much again.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
