"""What comes of a proof."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What came of a proof."""

    PROVEN = "proven"
    DIFFERENT = "different"
    SAMPLED = "sampled only"


NO_PROGRAM = "no reader of this format's program"
"""Why nothing can be proven of a file whose format's reader does not implement `program`."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome and why. `operation`: the name of the first whose result the deploy form has nowhere.

    `unlike`: it stopped at an operation that treats one image unlike another.
    `kinds`: of the operations that it stopped at.
    `constants`: those that the operations read whose results the deploy form has nowhere.
    """

    outcome: Outcome
    detail: str
    operation: str = ""
    unlike: bool = False
    kinds: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()
