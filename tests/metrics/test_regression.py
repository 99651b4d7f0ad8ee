import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from tfpt.metrics.regression import regression_metrics


def test_equals_scikit_learn_and_scipy_with_several_numbers_and_ties():
    random = np.random.default_rng(0)
    target = random.normal([0, 100], [1, 30], (300, 2)).round(1)
    value = target + random.normal(0, [1, 20], (300, 2)).round(1)
    columns = [(target[:, k], value[:, k]) for k in range(2)]
    assert regression_metrics({"target": target, "value": value}) == pytest.approx(
        {
            "r2": sklearn_metrics.r2_score(target, value),
            "mae": sklearn_metrics.mean_absolute_error(target, value),
            "rmse": sklearn_metrics.root_mean_squared_error(target, value),
            "pearson": np.mean([stats.pearsonr(*pair)[0] for pair in columns]),
            "spearman": np.mean([stats.spearmanr(*pair)[0] for pair in columns]),
        }
    )


def test_targets_that_do_not_vary():
    same = np.full((3, 1), 2.0)
    found = regression_metrics({"target": same, "value": same})
    assert (found["r2"], found["mae"], found["rmse"]) == (1, 0, 0)
    assert np.isnan([found["pearson"], found["spearman"]]).all()
    assert regression_metrics({"target": same, "value": same + 1})["r2"] == 0
