"""Which examples are kept in memory, and what a token budget needs."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.training import fit, strategies
from tfpt.training.run_folder import RunFolder


def keep(folder, *, cache="auto", first_length=0, pictures=False, pad_to="auto", lengths=None, accumulate=1):
    warnings = []
    prepared = SimpleNamespace(
        preprocessors=[SimpleNamespace(first_length=first_length)],
        bytes_per_example=lambda: 1 << 60,
        can_keep_as_read=pictures,
        keep_as_read=lambda examples: None,
        keep=lambda examples, **named: None,
        failed=set(),
        truncated=lambda examples: {},
        lengths=lengths,
    )
    every = np.arange(1 if lengths is None else len(lengths))
    setting = SimpleNamespace(
        experiment=SimpleNamespace(
            input=SimpleNamespace(tokens_per_batch=64, cache=cache, pad_to=pad_to, max_bad_fraction=0.0),
            train=SimpleNamespace(accumulate=accumulate),
        ),
        prepared=prepared,
        splits=SimpleNamespace(train=every, validation=every[:0], test=every[:0]),
        index=SimpleNamespace(names=list(every)),
        digests=None,
    )
    console = SimpleNamespace(say=lambda text: None, warn=warnings.append)
    fit.keep_prepared(setting, RunFolder(folder), console=console)
    return warnings


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


def test_a_token_budget_below_the_longest_text_is_said(tmp_path):
    (said,) = keep(tmp_path, cache="memory", lengths=np.array([10, 70, 20, 64]))
    assert said.startswith(
        "1 of 4 training texts do not fit into --input.tokens_per_batch=64, the longest has 70 tokens"
    )
    (said,) = keep(tmp_path, cache="memory", lengths=np.array([10, 40, 32, 64]), accumulate=2)
    assert said.startswith("2 of 4") and "=64 in each of --train.accumulate=2 parts, the longest has 64" in said
    assert not keep(tmp_path, cache="memory", lengths=np.array([10, 64]))
