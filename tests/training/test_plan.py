import numpy as np
import pytest

from tfpt.training.plan import LIKE_LENGTH, TrainingPlan, evaluation_plan, training_plan

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


LENGTHS = np.random.default_rng(0).integers(1, 100, 1000)


def budgeted(tokens=256, multiple=1):
    return TrainingPlan(
        examples=np.arange(1000), batch_size=7, seed=3, lengths=LENGTHS, tokens=tokens, multiple=multiple
    )


@pytest.mark.parametrize(("multiple", "most"), [(1, 1.2), (4, 1.5)])
def test_a_token_budget_is_kept_and_each_example_counts_once(multiple, most):
    plan = budgeted(512, multiple)
    for epoch in (0, 1):
        rows = plan.rows(epoch)
        assert len(rows) == plan.steps
        counted = np.concatenate([row[row >= 0] for row in rows])
        assert np.array_equal(np.sort(counted), np.arange(1000))
        assert all(len(row) % multiple == 0 for row in rows)
        assert max(len(row) * LENGTHS[np.where(row < 0, ~row, row)].max() for row in rows) <= 512
    assert plan.width is None
    assert plan.steps * 512 < most * LENGTHS.sum()  # little of the budget is left free


def test_a_token_budget_mixes_texts_of_like_length_anew_each_epoch():
    plan = budgeted()
    first, second = ({frozenset(row) for row in plan.rows(epoch)} for epoch in (0, 1))
    assert len(first & second) < len(first) / 4
    assert [row.tolist() for row in plan.rows(1)] == [row.tolist() for row in budgeted().rows(1)]
    for row in plan.rows(0):
        assert np.ptp(-(-LENGTHS[row] // LIKE_LENGTH)) <= 1


def test_an_example_longer_than_the_budget_has_a_row_of_its_own():
    plan = TrainingPlan(examples=np.arange(3), batch_size=2, seed=0, lengths=np.array([500, 4, 4]), tokens=64)
    assert sorted(row.tolist() for row in plan.rows(0)) in ([[0], [1, 2]], [[0], [2, 1]])


def test_without_a_budget_a_plan_is_the_training_plan():
    plan = TrainingPlan(examples=EXAMPLES, batch_size=4, seed=1)
    assert (plan.width, plan.steps) == (4, 3)
    assert np.array_equal(plan.rows(2), training_plan(EXAMPLES, batch_size=4, seed=1, epoch=2))
