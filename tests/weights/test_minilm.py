"""MiniLM gives the vectors that its publishers' own code gives.

The golden values were made once with transformers 5.23 and torch 2.15: mean over tokens, divided by its length.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones.hf import Hf
from tfpt.config import Input
from tfpt.weights.home import home

HOME = home()  # before other tests choose folders of their own
TEXTS = ["A gorgeous, witty film.", "Ünïcödé naïve café: 中文 don't!"]
# Every 48th of the 384 numbers.
GOLDEN = [
    [-0.0812, 0.0215, -0.03246, -0.05433, 0.05704, 0.10953, -0.03786, 0.04181],
    [0.00279, -0.06144, 0.08162, 0.03758, -0.03238, 0.09375, -0.0213, -0.01418],
]


# Deselected (see conftest.py) when the weights are not in the cache.
@pytest.mark.parametrize("cached_weights", ["hf:minilm_l6"])
def test_the_embeddings_are_the_published_ones(cached_weights, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(HOME))
    backbone = Hf(cached_weights.partition(":")[2])
    preprocessor = backbone.preprocessor(Input())
    network = backbone.build(preprocessor.size)
    values, _ = preprocessor.host_batch(tf.constant(TEXTS))
    vectors = network(preprocessor.device()(values))["pooled"].numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:, ::48], GOLDEN, atol=1e-4)
    assert backbone.loaded.ignored == ["embeddings.position_ids"]
    assert backbone.spec().size == preprocessor.size == 256
