import numpy as np
import pytest

from tfpt.training.plan import evaluation_plan, training_plan

EXAMPLES = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29], np.int64)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
@pytest.mark.parametrize(
    "plan", [evaluation_plan, lambda e, batch_size: training_plan(e, batch_size=batch_size, seed=1, epoch=2)]
)
def test_each_example_counts_once_and_fillers_end_the_last_row(plan, batch_size):
    rows = plan(EXAMPLES, batch_size=batch_size)
    assert rows.dtype == np.int64
    assert rows.shape == (-(-10 // batch_size), batch_size)
    flat = rows.reshape(-1)
    assert sorted(flat[:10]) == EXAMPLES.tolist()
    assert set(~flat[10:]) <= set(EXAMPLES.tolist())
    assert np.all(flat[10:] < 0)


def test_a_training_plan_is_a_function_of_seed_and_epoch():
    plan = training_plan(EXAMPLES, batch_size=4, seed=0, epoch=0)
    assert np.array_equal(plan, training_plan(EXAMPLES, batch_size=4, seed=0, epoch=0))
    others = [training_plan(EXAMPLES, batch_size=4, seed=s, epoch=e) for s, e in ((0, 1), (1, 0), (1, 1))]
    distinct = {plan.tobytes(), *(other.tobytes() for other in others)}
    assert len(distinct) == 4


def test_a_training_plan_leaves_numpys_own_randomness_alone():
    before = np.random.get_state()[1].copy()
    training_plan(EXAMPLES, batch_size=4, seed=0, epoch=0)
    assert np.array_equal(before, np.random.get_state()[1])


def test_the_plan_of_known_arguments_stays_the_same():
    # a checkpoint of an earlier tfpt goes on with the plan it began with
    assert training_plan(np.arange(6), batch_size=4, seed=7, epoch=3).tolist() == [[4, 0, 5, 3], [1, 2, -3, -2]]


def test_evaluation_keeps_the_order():
    assert evaluation_plan(EXAMPLES[:5], batch_size=3).tolist() == [[2, 3, 5], [7, 11, -12]]
