"""What a gate found."""

from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.interface import OUTPUT
from validation.inputs.golden_set import Kind
from validation.metrics import snr_db


@dataclass(frozen=True, slots=True)
class KindError:
    """One kind of input under one gate, of one output: pooled over its images and over the batch sizes tried.

    `kl_nats` is of the softmax: None of an output that is no logits.
    """

    kind: Kind
    worst: float
    worst_image: str
    floor: float
    budget: float
    max_abs: float
    cosine: float
    kl_nats: float | None
    output: str = OUTPUT

    @property
    def passed(self) -> bool:
        """A positive condition, so that NaN fails. A precision that overflows here has no budget, and fails too."""
        return self.worst <= self.budget < float("inf")

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio of the worst image."""
        return snr_db(self.worst)


_SHOWN = 3


def some(found: Sequence[str]) -> str:
    """The first few of what is wrong, and how many more there are."""
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class GateResult:
    """The outcome of the gate of this name. `warning`: what the user should know although the gate passed."""

    gate: str
    worst: float
    budget: float
    detail: str
    floor: float | None = None
    kind: Kind | None = None
    kinds: tuple[KindError, ...] = ()
    warning: str | None = None

    @property
    def passed(self) -> bool:
        """Every kind is within its own budget; NaN is not."""
        return self.worst <= self.budget and all(kind.passed for kind in self.kinds)
