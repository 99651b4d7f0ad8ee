import math

import pytest

from tfpt.errors import GateError, UserError
from tfpt.evaluation.gate import check_requirements, parse_requirements

NAMES = ("accuracy", "log_loss")


@pytest.mark.parametrize("text", ["", " ", ","])
def test_nothing_is_required_by_default(text):
    if text.strip(","):
        with pytest.raises(UserError):
            parse_requirements(text, NAMES)
    else:
        assert parse_requirements(text, NAMES) == ()


def test_several_are_read():
    found = parse_requirements("accuracy>=0.9, log_loss < 5e-1", NAMES)
    assert [str(requirement) for requirement in found] == ["accuracy>=0.9", "log_loss<0.5"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accuracy", "'accuracy' is not METRIC>=NUMBER"),
        ("accuracy=0.9", "is not METRIC>=NUMBER"),
        ("accuracy>=high", "is not METRIC>=NUMBER"),
        ("accuracy>=-.e", "is not METRIC>=NUMBER"),
        ("acuracy>=0.9", "no metric acuracy; there are accuracy, log_loss"),
    ],
)
def test_what_is_no_requirement_is_said(text, says):
    with pytest.raises(UserError, match=r"--export\.require=") as error:
        parse_requirements(text, NAMES)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy>=0.9", True),
        ("accuracy>0.9", False),
        ("accuracy<=0.9", True),
        ("accuracy<0.9", False),
        ("accuracy>0.8,log_loss<0.4", False),
        ("accuracy>0.8,log_loss<0.6", True),
    ],
)
def test_requirements_hold_or_not(text, holds):
    requirements = parse_requirements(text, NAMES)
    metrics = {"accuracy": 0.9, "log_loss": 0.5}
    if holds:
        check_requirements(requirements, metrics)
    else:
        with pytest.raises(GateError, match="does not hold"):
            check_requirements(requirements, metrics)


@pytest.mark.parametrize("comparison", [">=", "<=", ">", "<"])
def test_what_is_not_a_number_never_holds(comparison):
    requirements = parse_requirements(f"accuracy{comparison}0.5", NAMES)
    with pytest.raises(GateError, match="accuracy is nan"):
        check_requirements(requirements, {"accuracy": math.nan})
