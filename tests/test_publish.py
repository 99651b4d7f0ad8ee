"""What is chosen after training, before a model is measured and published."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

from tfpt import publish
from tfpt.console import Console


@pytest.mark.parametrize("calibrates", [True, False])
def test_what_cannot_be_calibrated_for_want_of_a_validation_split_is_said(calibrates):
    stream, servable = io.StringIO(), object()
    setting = SimpleNamespace(
        task=SimpleNamespace(calibrates=lambda state: calibrates),
        state={},
        splits=SimpleNamespace(validation=np.arange(0)),
    )
    assert publish._calibrated(servable, setting, Console(quiet=True, stream=stream)) is servable
    assert ("no validation split, so nothing is calibrated" in stream.getvalue()) == calibrates
