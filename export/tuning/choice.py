"""Which of the candidates are worth having: the Pareto front, and the best within the budget."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """What one candidate that passed costs. `median_ms` None: it could not be timed here, and no latency is guessed.

    `drop`: top-1 that is lost, percentage points; None: not measured. `within`: it is, and no more than the budget.
    """

    name: str
    target: str
    size_bytes: int
    drop: float | None
    within: bool
    median_ms: float | None = None


def front(points: Sequence[Point]) -> frozenset[str]:
    """Names of those that no other beats in latency, size and accuracy together.

    What was timed here is compared across targets. What was not, only within its target, by size and accuracy.
    """
    return frozenset(each.name for each in points if not any(_beats(other, each) for other in points))


def best(points: Sequence[Point]) -> dict[str, str]:
    """By target, within the budget: the fastest where the target was timed, else the smallest."""
    found: dict[str, str] = {}
    for target in dict.fromkeys(each.target for each in points):
        own = [each for each in points if each.target == target and each.within]
        fast = fastest(own)
        if fast is not None:
            found[target] = fast
        elif own:
            found[target] = min(own, key=_smallest).name
    return found


def fastest(points: Sequence[Point]) -> str | None:
    """Of all that were timed here and are within the budget; None where there is none."""
    timed = [(each.median_ms, each.size_bytes, each.name) for each in points if each.within and each.median_ms]
    return min(timed)[2] if timed else None


def _smallest(each: Point) -> tuple[float, float]:
    return each.size_bytes, 0.0 if each.drop is None else each.drop


def _beats(one: Point, other: Point) -> bool:
    """No worse in anything, and better in something."""
    if (one.median_ms is None) != (other.median_ms is None):
        return False
    if one.median_ms is None and one.target != other.target:
        return False
    costs = list(zip(_costs(one), _costs(other), strict=True))
    return all(a <= b for a, b in costs) and any(a < b for a, b in costs)


def _costs(each: Point) -> tuple[float, float, float]:
    return each.median_ms or 0.0, each.size_bytes, float("inf") if each.drop is None else each.drop
