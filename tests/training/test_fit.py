"""Which examples are kept in memory, and what a token budget needs."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.training import fit, strategies
from tfpt.training.run_folder import RunFolder


def keep(folder, *, cache="auto", first_length=0, pictures=False, pad_to="auto"):
    prepared = SimpleNamespace(
        preprocessors=[SimpleNamespace(first_length=first_length)],
        bytes_per_example=lambda: 1 << 60,
        can_keep_as_read=pictures,
        keep_as_read=lambda examples: None,
        lengths=None,
    )
    one = np.array([0])
    setting = SimpleNamespace(
        experiment=SimpleNamespace(input=SimpleNamespace(tokens_per_batch=64, cache=cache, pad_to=pad_to)),
        prepared=prepared,
        splits=SimpleNamespace(train=one, validation=one[:0], test=one[:0]),
    )
    fit.keep_prepared(setting, RunFolder(folder), console=SimpleNamespace(say=lambda text: None))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "write --input.cache=memory, or take fewer texts"),
        ({"cache": "off"}, "do not set --input.cache=off"),
        ({"pictures": True}, "with pictures leave it out"),
        ({"first_length": 9}, r"--input.tokens_per_batch=64 counts the tokens of whole texts, .* windows"),
    ],
)
def test_what_a_token_budget_needs(tmp_path, given, says):
    with pytest.raises(UserError, match=says):
        keep(tmp_path, **given)


def test_a_token_budget_is_refused_on_a_tpu_unless_shapes_may_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(strategies.Together, "is_tpu", True)
    with pytest.raises(
        UserError, match=r"--input.tokens_per_batch=64 makes batches of different shapes, and a TPU needs one"
    ):
        keep(tmp_path)
    with pytest.raises(UserError, match="needs texts that are kept in memory"):
        keep(tmp_path, pad_to="batch")
