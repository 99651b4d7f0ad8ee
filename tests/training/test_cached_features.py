import numpy as np
from peak_memory import peak_memory

from tfpt.training.cached_features import Kept
from tfpt.training.feature_rows import Layout, Recorder


def rows_of(values):
    recorder = Recorder(Layout(values.shape[1:], values.dtype))
    recorder.add(values)
    return recorder.rows()


def test_batches_of_kept_features_copy_none_but_their_own():
    features, weights = np.zeros((2**16, 1024), np.float32), np.ones(2**16, np.float32)
    features[:, 0] = np.arange(2**16)
    kept = Kept(
        rows=[rows_of(features), rows_of(weights)],
        pack=lambda flat: {"inputs": flat[0], "weight": flat[1]},
        slots=np.arange(2**16),
        views=1,
    )
    with peak_memory() as peak:
        batches = list(kept.evaluation_batches(np.arange(2**16 - 8, 2**16).reshape(2, 4)))
    assert peak.grown < features.nbytes / 4
    np.testing.assert_array_equal(batches[1]["inputs"][:, 0], np.arange(2**16 - 4, 2**16))
