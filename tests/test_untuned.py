"""No pipeline of tfpt's waits for tf.data's tuner."""

import ast
from pathlib import Path

import pytest
import tensorflow as tf
from peak_memory import peak_memory

import tfpt
from tfpt.untuned import untuned

ROOT = Path(tfpt.__file__).parent


def test_an_untuned_dataset_gives_the_same():
    dataset = untuned(tf.data.Dataset.range(5).map(lambda x: x * 2))
    assert list(dataset.as_numpy_iterator()) == [0, 2, 4, 6, 8]
    assert dataset.options().autotune.enabled is False


def test_what_a_function_captures_is_not_copied_where_nothing_is_rewritten():
    captured = tf.zeros([2**29], tf.uint8)
    dataset = untuned(tf.data.Dataset.range(5).map(lambda k: captured[k]), rewritten=False)
    with peak_memory() as peak:
        assert list(dataset.as_numpy_iterator()) == [0] * 5
    assert peak.grown < 2**26


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_iterated_over_is_untuned(file):
    """Whoever writes `.as_numpy_iterator()` writes `untuned(...)` before it; a dataset that a user gives stays as it is."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == "as_numpy_iterator":
            made = ast.unparse(node.value)
            assert made.startswith("untuned(") or made == "self._dataset", f"{file.name}:{node.lineno}"
