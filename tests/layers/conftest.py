"""What tests of lean layers share."""

import keras
import numpy as np
import pytest


@pytest.fixture
def in_float32_and_bfloat16():
    """Takes a function that returns, in the policy of the moment, what Keras' layer gives and what the lean one gives; returns what Keras'
    gives in float32, and both in bfloat16."""

    def made(both):
        exact, _ = both()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            usual, ours = both()
        finally:
            keras.config.set_dtype_policy("float32")
        assert ours[0].dtype == usual[0].dtype
        return exact, usual, ours

    return made


@pytest.fixture
def bfloat16_is_no_farther(in_float32_and_bfloat16):
    """Checks that in bfloat16 a lean layer is about as near to float32 as Keras' own."""

    def check(both):
        for wanted, theirs, mine in zip(*in_float32_and_bfloat16(both), strict=True):
            size = np.abs(wanted).max()
            off = [np.abs(np.asarray(made, "float32") - wanted).max() / size for made in (theirs, mine)]
            assert off[1] < max(1.5 * off[0], 0.01)

    return check
