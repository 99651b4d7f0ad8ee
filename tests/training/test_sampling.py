"""How often classes and examples come in an epoch."""

import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.training.plan import TrainingPlan
from tfpt.training.sampling import sampled

LABELS = np.repeat([0, 1, 2], [90, 9, 1])
EXAMPLES = np.random.default_rng(0).permutation(100)


def epoch_of(sampling, epoch=0, seed=0, labels=LABELS, examples=EXAMPLES):
    return sampled(examples, labels, sampling=sampling, seed=seed, epoch=epoch)


@pytest.mark.parametrize(
    ("sampling", "wanted"), [("natural", [90, 9, 1]), ("balanced", [34, 33, 33]), ("sqrt", [70, 22, 8])]
)
def test_classes_have_their_shares_and_the_epoch_its_length(sampling, wanted):
    counts = np.bincount(LABELS[epoch_of(sampling)])
    assert counts.sum() == 100
    assert np.abs(counts - wanted).max() <= 1


def test_examples_of_a_class_come_equally_often_and_others_in_another_epoch():
    drawn = [np.bincount(epoch_of("balanced", epoch), minlength=100) for epoch in range(40)]
    for one in drawn:
        assert set(one[LABELS == 0]) == {0, 1}
        assert set(one[LABELS == 1]) == {3, 4}
    assert not np.array_equal(drawn[0], drawn[1])
    assert (np.sum(drawn, axis=0)[LABELS == 0] > 0).all()  # nothing is left out for good


def test_the_draw_is_a_function_of_seed_and_epoch():
    np.testing.assert_array_equal(epoch_of("sqrt", 3), epoch_of("sqrt", 3))
    assert not np.array_equal(epoch_of("sqrt", 3), epoch_of("sqrt", 3, seed=1))


def test_examples_of_another_split_are_never_drawn():
    some = EXAMPLES[:40]
    assert set(epoch_of("balanced", examples=some)) <= set(some)


@pytest.mark.parametrize("sampling", ["natural", "balanced", "sqrt"])
def test_a_plan_has_as_many_rows_whatever_the_sampling(sampling):
    plan = TrainingPlan(examples=EXAMPLES, batch_size=8, seed=0, labels=LABELS, sampling=sampling)
    rows = plan.rows(2)
    assert len(rows) == plan.steps == 13
    there = np.concatenate(rows)
    np.testing.assert_array_equal(np.sort(there[there >= 0]), np.sort(epoch_of(sampling, 2)))


def test_sampling_without_classes_is_refused(fit, tmp_path):
    file = tmp_path / "values.csv"
    file.write_text("text,target\n" + "".join(f"sentence number {k},{k}.5\n" for k in range(20)))
    with pytest.raises(UserError, match=r"--input.sampling=balanced: the examples of .* have no single class"):
        fit(
            tmp_path,
            task="text_classification",
            data=f"csv:{file}",
            data_options={"label": "target"},
            backbone="toys.toy_words",
            sampling="balanced",
        )
