"""Every class in every part that it can be in, with the fewest moves: what chance leaves out of a threshold on a hash."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes:
    """Which classes the examples of each unit have; a unit is what stays together: a content, or a group.

    Attributes:
        of_unit: unit -> its classes.
        units: class -> the units that have it.
    """

    of_unit: Mapping[int, Sequence[int]]
    units: Mapping[int, Sequence[int]]

    @classmethod
    def of(cls, pairs: set[tuple[int, int]]) -> "Classes":
        """Makes it of pairs (class, unit)."""
        of_unit: dict[int, list[int]] = {}
        units: dict[int, list[int]] = {}
        for label, unit in sorted(pairs):
            of_unit.setdefault(unit, []).append(label)
            units.setdefault(label, []).append(unit)
        return cls(of_unit=of_unit, units=units)

    def only(self, units: set[int]) -> "Classes":
        """Returns these units and their classes; classes of no other unit are left out."""
        return Classes.of({(label, unit) for unit in units for label in self.of_unit.get(unit, ())})


def cover(
    place: np.ndarray,
    line: np.ndarray,
    classes: Classes,
    *,
    intervals: Mapping[int, tuple[float, float]],
    wanted: Mapping[int, Sequence[int]],
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """Moves units, each the nearest to its threshold, until every class is in each part that it is wanted in.

    The rarest class comes first, as in iterative stratification (Sechidis et al., ECML PKDD 2011): it has the fewest units to
    choose from. Unlike there, units stay where their hash puts them unless a class is missing, so that new files move no old one.

    Args:
        place: `[units]`, the part of each, changed in place.
        line: `[units]`, their positions from 0 to 1.
        classes: of the units.
        intervals: part -> where it lies on the line.
        wanted: class -> parts that it must be in, the most important first.

    Returns:
        Moves (unit, from, to), and what no move could mend (class, part): groups would be torn apart.
    """
    count: dict[tuple[int, int], int] = {}
    for unit, held in classes.of_unit.items():
        for label in held:
            count[label, place[unit]] = count.get((label, place[unit]), 0) + 1

    def can_leave(unit: int) -> bool:
        part = place[unit]
        return all(count[label, part] > 1 or part not in wanted[label] for label in classes.of_unit[unit])

    moves, stuck = [], []
    for label, found in sorted(classes.units.items(), key=lambda item: len(item[1])):
        for part in (p for p in wanted[label] if not count.get((label, p))):
            low, high = intervals[part]
            spare = [unit for unit in found if can_leave(unit)]
            if not spare:
                stuck.append((label, part))
                continue
            unit = min(spare, key=lambda u: (max(low - line[u], line[u] - high), line[u]))
            for other in classes.of_unit[unit]:
                count[other, place[unit]] -= 1
                count[other, part] = count.get((other, part), 0) + 1
            moves.append((unit, int(place[unit]), part))
            place[unit] = part
    return moves, stuck
