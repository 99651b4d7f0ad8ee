"""Updates against the rules written out in numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Optim
from tfpt.errors import UserError
from tfpt.fields import settings_of
from tfpt.training import freezing
from tfpt.training.schedules import Rise, WarmUpAndDecay, schedule_of
from tfpt.training.updates import LOSS_SCALE_START, RateGroup, Updates

STEPS = 5


def variables(*shapes):
    random = np.random.default_rng(0)
    return [keras.Variable(random.normal(size=shape).astype("float32")) for shape in shapes]


def gradients_for(variables):
    random = np.random.default_rng(1)
    return [[random.normal(size=v.shape).astype("float32") for v in variables] for _ in range(STEPS)]


def make(groups, *, rate=0.01, steps=STEPS, loss_scaling=False, **options):
    options = {"warmup": 0.0, "schedule": "constant", "clip_norm": 0.0, **options}
    return Updates(groups, Optim(**options), learning_rate=rate, steps=steps, loss_scaling=loss_scaling)


def adamw(value, gradients, *, rate, decay):
    """AdamW (Loshchilov and Hutter, 2019) with decoupled decay at the variable's own rate."""
    value, m, v = value.astype(np.float64), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        value = value - rate * decay * value
        value = value - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    return value


@pytest.mark.parametrize("multiplier", [1.0, 0.1])
def test_a_multiplier_scales_step_and_decay_of_adamw(multiplier):
    matrix, bias = variables((3, 4), (4,))
    starts = [v.numpy() for v in (matrix, bias)]
    steps = gradients_for([matrix, bias])
    updates = make([RateGroup(multiplier, (matrix, bias))], weight_decay=0.5)
    for gradients in steps:
        updates.apply(gradients)
    for k, (variable, decay) in enumerate(((matrix, 0.5), (bias, 0.0))):  # nothing of rank 1 decays
        wanted = adamw(starts[k], [g[k] for g in steps], rate=0.01 * multiplier, decay=decay)
        np.testing.assert_allclose(variable.numpy(), wanted, rtol=1e-4, atol=1e-6)
        assert np.abs(variable.numpy() - starts[k]).max() > 1e-4


def test_a_compiled_step_is_that_of_the_kernel(monkeypatch):
    made = []
    for worth in (1, 2**40):
        monkeypatch.setattr("tfpt.training.updates.WORTH_COMPILING", worth)
        large, small = variables((300, 256), (4,))
        updates = make([RateGroup(0.5, (large, small))], steps=200, weight_decay=0.5, clip_norm=2.0)
        assert updates.optimizers[0].compiled == (worth == 1)
        step = tf.function(updates.apply)
        for gradients in gradients_for([large, small]):
            step([tf.constant(g) for g in gradients])
        made.append([v.numpy() for v in [large.value, small.value, *updates.state]])
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_few_steps_are_not_worth_compiling():
    (large,) = variables((2**13, 2**10))
    assert not make([RateGroup(1.0, (large,))]).optimizers[0].compiled
    assert make([RateGroup(1.0, (large,))], steps=200).optimizers[0].compiled


def test_a_table_s_unused_rows_stay_as_they_are_where_updates_are_lazy(monkeypatch):
    monkeypatch.setattr("tfpt.training.updates.WORTH_COMPILING", 1)
    table, kernel = variables((20000, 4), (300, 256))
    starts = [v.numpy() for v in (table, kernel)]
    updates = make([RateGroup(1.0, (table, kernel), by_row=(table,))], steps=200, weight_decay=0.5)
    used, random = np.array([3, 70, 19999]), np.random.default_rng(2)
    given = []
    for _ in range(STEPS):
        gradient = np.zeros((20000, 4), "float32")
        gradient[used] = random.normal(size=(3, 4))
        given.append(gradient[used])
        updates.apply([gradient, np.zeros((300, 256), "float32")])
    wanted = adamw(starts[0][used], given, rate=0.01, decay=0.5)
    np.testing.assert_allclose(table.numpy()[used], wanted, rtol=1e-4, atol=1e-6)
    unused = np.setdiff1d(np.arange(20000), used)
    assert np.array_equal(table.numpy()[unused], starts[0][unused])
    np.testing.assert_allclose(
        kernel.numpy(), starts[1] * (1 - 0.01 * 0.5) ** STEPS, rtol=1e-5
    )  # no table: all of it decays


def test_lazy_updates_are_those_of_embedding_layers():
    tokens = keras.Input([None], dtype="int32")
    embedded = keras.layers.Embedding(50, 8)(tokens)
    model = keras.Model(tokens, keras.layers.Dense(2)(embedded))
    assert {v.path for v in model.trainable_variables if id(v) in freezing._embedding_tables(model)} == {
        model.layers[1].embeddings.path
    }


def test_lazy_updates_go_with_adamw():
    with pytest.raises(ValueError, match="lazy_embeddings: it goes with name=adamw, not with lion"):
        Optim(name="lion", lazy_embeddings=True)


def test_multiplier_zero_leaves_a_variable_bit_equal():
    moved, left = variables((3, 4), (5, 2))
    start = left.numpy()
    updates = make([RateGroup(1.0, (moved,)), RateGroup(0.0, (left,))], weight_decay=0.5)
    assert updates.trained == [moved]
    for gradients in gradients_for([moved]):
        updates.apply(gradients)
    assert np.array_equal(left.numpy(), start)


def test_that_nothing_would_train_is_said():
    (matrix,) = variables((2, 2))
    for groups in ([RateGroup(0.0, (matrix,)), RateGroup(1.0, ())], []):
        with pytest.raises(UserError, match=r"Nothing would train: --optim.head_multiplier=0.*--train.unfreeze"):
            make(groups)


def test_sgd_has_momentum():
    (matrix,) = variables((3, 4))
    value, velocity = matrix.numpy().astype(np.float64), 0.0
    steps = gradients_for([matrix])
    updates = make([RateGroup(1.0, (matrix,))], name="sgd", momentum=0.8, weight_decay=0.0)
    for (gradient,) in steps:
        updates.apply([gradient])
        velocity = 0.8 * velocity - 0.01 * gradient
        value = value + velocity
    np.testing.assert_allclose(matrix.numpy(), value, rtol=1e-5, atol=1e-6)


NAMES = tuple(settings_of("optim", Optim)[0].choices)


def lion(value, gradients, *, rate):
    """Chen et al. (2023), algorithm 2."""
    m = 0.0
    for g in gradients:
        value, m = value - rate * np.sign(0.9 * m + 0.1 * g), 0.99 * m + 0.01 * g
    return value


def rmsprop(value, gradients, *, rate):
    """Tieleman and Hinton (2012), with a momentum of 0.8."""
    mean, velocity = 0.0, 0.0
    for g in gradients:
        mean = 0.9 * mean + 0.1 * g * g
        velocity = 0.8 * velocity + rate * g / np.sqrt(mean + 1e-7)
        value = value - velocity
    return value


def adafactor(value, gradients, *, rate):
    """Shazeer and Stern (2018), algorithm 4, for a matrix whose root mean square is below 1."""
    rows, columns = np.zeros(value.shape[0]), np.zeros(value.shape[1])
    for t, g in enumerate(gradients, start=1):
        decay = 1 - t**-0.8
        squares = g * g + 1e-30
        rows = decay * rows + (1 - decay) * squares.mean(1)
        columns = decay * columns + (1 - decay) * squares.mean(0)
        step = g / np.sqrt(np.outer(rows / rows.mean(), columns))
        value = value - min(rate, 1 / np.sqrt(t)) * step / max(1.0, np.sqrt((step**2).mean()))
    return value


@pytest.mark.parametrize("reference", [lion, rmsprop, adafactor], ids=lambda f: f.__name__)
def test_the_other_rules_do_what_their_papers_say(reference):
    (matrix,) = variables((3, 4))
    matrix.assign(matrix * 0.3)
    start, steps = matrix.numpy().astype(np.float64), gradients_for([matrix])
    updates = make([RateGroup(1.0, (matrix,))], name=reference.__name__, momentum=0.8, weight_decay=0.0)
    for gradients in steps:
        updates.apply(gradients)
    wanted = reference(start, [g.astype(np.float64) for (g,) in steps], rate=0.01)
    np.testing.assert_allclose(matrix.numpy(), wanted, rtol=1e-3, atol=1e-6)
    assert np.abs(matrix.numpy() - start).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_decays_by_the_group_s_own_rate_and_no_bias(name):
    matrix, bias = variables((3, 4), (4,))
    starts = [matrix.numpy(), bias.numpy()]
    updates = make([RateGroup(0.1, (matrix, bias))], name=name, weight_decay=0.5)
    for _ in range(3):
        updates.apply([np.zeros((3, 4), "float32"), np.zeros(4, "float32")])
    np.testing.assert_allclose(matrix.numpy(), starts[0] * (1 - 0.01 * 0.1 * 0.5) ** 3, rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), starts[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_goes_on_exactly_from_its_state(name):
    def fresh():
        matrix, bias, kernel = variables((3, 4), (4,), (2, 2, 3, 4))
        groups = [RateGroup(1.0, (matrix, bias)), RateGroup(0.3, (kernel,))]
        return [matrix, bias, kernel], make(groups, name=name, schedule="cosine", weight_decay=0.1)

    (ours, whole), (theirs, again) = fresh(), fresh()
    steps = gradients_for(ours)
    for number, gradients in enumerate(steps):
        if number == 3:
            for target, source in zip([*theirs, *again.state], [*ours, *whole.state], strict=True):
                target.assign(source)
        whole.apply(gradients)
        if number >= 3:
            again.apply(gradients)
    for a, b in zip([*ours, *whole.state], [*theirs, *again.state], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_head_of_zeros_learns_under_adafactor():
    (kernel,) = variables((3, 4))
    kernel.assign(np.zeros((3, 4)))
    make([RateGroup(1.0, (kernel,))], name="adafactor", weight_decay=0.0).apply([np.ones((3, 4), "float32")])
    np.testing.assert_allclose(kernel.numpy(), -0.01, rtol=1e-4)


def test_the_norm_is_taken_after_duplicate_rows_are_summed():
    (table,) = variables((4, 2))
    start = table.numpy()
    rows = tf.IndexedSlices(tf.ones([9, 2]), tf.ones([9], tf.int32), dense_shape=tf.constant([4, 2]))
    make([RateGroup(1.0, (table,))], name="sgd", momentum=0.0, weight_decay=0.0, rate=1.0, clip_norm=1.0).apply([rows])
    moved = start - table.numpy()
    np.testing.assert_allclose(np.linalg.norm(moved), 1.0, rtol=1e-5)
    np.testing.assert_allclose(moved[1], 1 / np.sqrt(2), rtol=1e-5)


def test_clipping_goes_over_all_groups_and_leaves_small_gradients():
    a, b = variables((2, 2), (2, 2))
    starts = [a.numpy(), b.numpy()]
    groups = [RateGroup(1.0, (a,)), RateGroup(0.5, (b,))]
    updates = make(groups, name="sgd", momentum=0.0, weight_decay=0.0, rate=1.0, clip_norm=1.0)
    updates.apply([np.full((2, 2), 3.0, "float32"), np.full((2, 2), 4.0, "float32")])  # norm 10
    np.testing.assert_allclose(starts[0] - a.numpy(), 0.3, rtol=1e-5)
    np.testing.assert_allclose(starts[1] - b.numpy(), 0.2, rtol=1e-5)
    small = a.numpy()
    updates.apply([np.full((2, 2), 0.1, "float32"), np.zeros((2, 2), "float32")])
    np.testing.assert_allclose(small - a.numpy(), 0.1, rtol=1e-4)


def test_an_overflow_skips_the_update_and_halves_the_scale():
    (matrix,) = variables((2, 2))
    start = matrix.numpy()
    updates = make([RateGroup(1.0, (matrix,))], loss_scaling=True)
    compiled = tf.function(lambda g: updates.apply([g]))
    assert not compiled(tf.constant([[1.0, np.inf], [1.0, 1.0]]))
    assert np.array_equal(matrix.numpy(), start)
    assert float(updates.scale) == LOSS_SCALE_START / 2
    assert int(updates.optimizers[0].iterations) == 0
    assert compiled(tf.ones([2, 2]) * updates.scale)
    assert not np.array_equal(matrix.numpy(), start)
    assert float(updates.scale) == LOSS_SCALE_START / 2
    assert int(updates.good_steps) == 1


def test_the_loss_scale_does_not_change_the_update():
    (matrix,), (other,) = variables((2, 2)), variables((2, 2))
    scaled, plain = make([RateGroup(1.0, (matrix,))], loss_scaling=True), make([RateGroup(1.0, (other,))])
    for (gradient,) in gradients_for([matrix]):
        scaled.apply([gradient * scaled.scale])
        plain.apply([gradient])
    assert np.array_equal(matrix.numpy(), other.numpy())


def test_the_scale_grows_after_many_good_steps(monkeypatch):
    monkeypatch.setattr("tfpt.training.updates.LOSS_SCALE_GROWTH_STEPS", 2)
    (matrix,) = variables((2, 2))
    updates = make([RateGroup(1.0, (matrix,))], loss_scaling=True)
    for wanted in (1, 2, 2, 4):
        updates.apply([tf.ones([2, 2])])
        assert float(updates.scale) == LOSS_SCALE_START * wanted


def test_the_schedule_rises_and_falls_and_is_scaled_for_each_group():
    schedule = WarmUpAndDecay(peak=2.0, steps=10, warmup=0.4, shape="cosine")
    values = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(values[:5], [0.5, 1.0, 1.5, 2.0, 2.0], rtol=1e-6)
    assert values[4:] == sorted(values[4:], reverse=True)
    np.testing.assert_allclose(values[7], 1.0, rtol=1e-6)  # half of the fall
    np.testing.assert_allclose(values[10], 0.0, atol=1e-6)
    constant = WarmUpAndDecay(peak=2.0, steps=10, warmup=0.0, shape="constant")
    assert [float(constant(step)) for step in (0, 9)] == [2.0, 2.0]
    assert [float(constant.times(0.5)(step)) for step in (0, 9)] == [1.0, 1.0]
    assert WarmUpAndDecay(**constant.get_config()).get_config() == constant.get_config()


def test_the_schedule_falls_in_a_line_or_in_steps():
    linear = WarmUpAndDecay(peak=2.0, steps=10, warmup=0.2, shape="linear")
    np.testing.assert_allclose([float(linear(step)) for step in (0, 1, 2, 6, 10)], [1.0, 2.0, 2.0, 1.0, 0.0], atol=1e-6)
    options = Optim(schedule="step", warmup=0.0, step_at=(30, 60, 90), step_factor=0.1)
    steps = schedule_of(options, learning_rate=2.0, steps=20)
    values = [float(steps(step)) for step in range(20)]
    np.testing.assert_allclose(values, [2.0] * 6 + [0.2] * 6 + [0.02] * 6 + [0.002] * 2, rtol=1e-5)
    never = schedule_of(Optim(schedule="step", warmup=0.0, step_at=()), learning_rate=2.0, steps=20)
    assert [float(never(step)) for step in (0, 19)] == [2.0, 2.0]


def test_the_range_test_grows_by_one_factor():
    rise = Rise(peak=1.0, steps=5, span=1e4)
    np.testing.assert_allclose([float(rise(step)) for step in range(5)], [1e-4, 1e-3, 1e-2, 1e-1, 1.0], rtol=1e-5)
    assert float(rise.times(0.1)(4)) == pytest.approx(0.1)


def test_every_state_variable_is_saved():
    matrix, bias = variables((3, 4), (4,))
    updates = make([RateGroup(1.0, (matrix,)), RateGroup(0.1, (bias,))])
    before = [v.numpy() for v in updates.state]
    updates.apply(gradients_for([matrix, bias])[0])
    assert sum(not np.array_equal(v.numpy(), old) for v, old in zip(updates.state, before, strict=True)) == 2 * 3
