"""`--export.require`: publish a model only if it is good enough."""

import dataclasses
import operator
import re
from collections.abc import Mapping, Sequence

from tfpt.errors import GateError, UserError

_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_REQUIREMENT = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One comparison, such as accuracy>=0.9."""

    metric: str
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.bound:g}"


def parse_requirements(text: str, metrics: Sequence[str]) -> tuple[Requirement, ...]:
    """Reads `accuracy>=0.9,macro_f1>0.8`.

    Args:
        text: of `--export.require`.
        metrics: the names that may be used.

    Raises:
        UserError: it is not such a list.
    """
    found = []
    for part in filter(None, text.split(",")):
        match = _REQUIREMENT.fullmatch(part)
        try:
            if not match:
                raise ValueError
            requirement = Requirement(match[1], match[2], float(match[3]))
        except ValueError:
            raise UserError(
                f'--export.require={text}: {part.strip()!r} is not METRIC>=NUMBER; write "accuracy>=0.9".'
            ) from None
        if requirement.metric not in metrics:
            raise UserError(
                f"--export.require={text}: there is no metric {requirement.metric}; there are {', '.join(metrics)}."
            )
        found.append(requirement)
    return tuple(found)


def check_requirements(requirements: Sequence[Requirement], metrics: Mapping[str, float]) -> None:
    """Raises GateError when a metric does not meet its bound, or is not a number."""
    missed = [r for r in requirements if not _COMPARISONS[r.comparison](metrics[r.metric], r.bound)]
    if missed:
        values = ", ".join(f"{r.metric} is {metrics[r.metric]:.4f}" for r in missed)
        raise GateError(
            f"--export.require={','.join(map(str, missed))} does not hold on test ({values}); nothing was published."
        )
