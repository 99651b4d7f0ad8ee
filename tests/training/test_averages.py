import keras
import numpy as np
import pytest

from tfpt.training.averages import Averages


def test_the_average_follows_its_formula_and_starts_fast():
    weight = keras.Variable(np.array([1.0, 2.0], "float32"))
    counter = keras.Variable(np.array(3), dtype="int32")
    averages = Averages([weight, counter], decay=0.5)
    wanted = np.array([1.0, 2.0])
    for n in range(8):
        weight.assign(weight + np.float32([1.0, -1.0]))
        averages.update()
        decay = min(0.5, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * weight.numpy()
    assert len(averages.averages) == 1  # a whole number has no average
    np.testing.assert_allclose(averages.averages[0].numpy(), wanted, rtol=1e-6)
    assert (1 + 7) / (10 + 7) < 0.5  # both branches of the formula were taken only if the decay is below that
    late = Averages([weight], decay=0.1)
    before = weight.numpy()
    weight.assign(weight + np.float32([10.0, 10.0]))
    late.update()
    late.update()
    np.testing.assert_allclose(late.averages[0].numpy(), before + 10.0 * (1 - 0.1 * 0.1), rtol=1e-5)


def test_swapped_in_puts_the_raw_bits_back_even_after_an_error():
    weight = keras.Variable(np.float32([0.1, 1e-20, 3e8]))
    averages = Averages([weight], decay=0.9)
    weight.assign(weight * 3)
    averages.update()
    raw = weight.numpy()
    with pytest.raises(RuntimeError), averages.swapped_in():
        assert np.array_equal(weight.numpy(), averages.averages[0].numpy())
        assert not np.array_equal(weight.numpy(), raw)
        raise RuntimeError
    assert weight.numpy().tobytes() == raw.tobytes()
