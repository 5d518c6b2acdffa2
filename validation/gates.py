"""The gates: interface, constants bit for bit, structure in float32 arithmetic, precision as it ships.

docs/numerics.md says why.

Each gate gives the error of its worst kind of input, measured in units of that kind's own budget: one
chaotic kind must not open the gate for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import Dtype
from runtimes.ports import Ports
from validation.constants import Audit
from validation.golden import Kind
from validation.metrics import (
    Agreement,
    Float64,
    centred_cosine,
    kl_divergence,
    relative_error,
    snr_db,
    top1_agreement,
)
from validation.reference import Floors, Reference

STRUCTURE_FACTOR = 4.0
"""Structure and float32: budget over floor. docs/numerics.md holds what healthy runs measured."""

PRECISION_FACTOR = {Dtype.FP32: 4.0, Dtype.FP16: 2.0, Dtype.BF16: 2.0}
"""Budget over floor by the narrower of weights and activations."""


class Gate(StrEnum):
    """What is compared."""

    INTERFACE = "interface"
    CONSTANTS = "constants"
    STRUCTURE = "structure"
    PRECISION = "precision"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class KindError:
    """One kind of input under one gate: pooled over its images and over the batch sizes tried."""

    kind: Kind
    worst: float
    worst_image: str
    floor: float
    budget: float
    max_abs: float
    cosine: float
    kl_nats: float

    @property
    def passed(self) -> bool:
        """A positive condition, so that NaN fails. A precision that overflows here has no budget, and fails too."""
        return self.worst <= self.budget < float("inf")

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio of the worst image."""
        return snr_db(self.worst)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The outcome of one gate. For interface and constants `worst` counts mismatches and the budget is 0."""

    gate: Gate
    worst: float
    budget: float
    floor: float | None
    kind: Kind | None
    detail: str
    kinds: tuple[KindError, ...] = ()

    @property
    def passed(self) -> bool:
        """Every kind is within its own budget; NaN is not."""
        return self.worst <= self.budget and all(kind.passed for kind in self.kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Logits (n, classes) of all golden images, from running them in batches of `batch`."""

    batch: int
    logits: NDArray[np.float32]


def structure_budget(reference: Reference, kind: Kind) -> float:
    """What float32 arithmetic on the same weights may deviate."""
    return STRUCTURE_FACTOR * reference.structure_floors[kind]


def precision_budget(reference: Reference, kind: Kind) -> float:
    """What the precision that ships may deviate from the float64 reference."""
    dtypes = (reference.precision.weights, reference.precision.activations)
    return min(PRECISION_FACTOR[dtype] for dtype in dtypes) * reference.floors[kind]


def ordinary(floors: Floors) -> Floors:
    """Without the amplified inputs, which are judged in float32 arithmetic only."""
    return {kind: floor for kind, floor in floors.items() if kind is not Kind.AMPLIFIED}


def interface_gate(found: Ports, intended: Ports) -> GateResult:
    """An app feeds inputs and reads outputs by name: names, types and shapes are what the manifest says of them."""
    wrong = [
        f"{what} {', '.join(map(str, got)) or 'none'} in place of {', '.join(map(str, meant))}"
        for what, got, meant in zip(("inputs", "outputs"), found, intended, strict=True)
        if got != meant
    ]
    return GateResult(Gate.INTERFACE, float(len(wrong)), 0.0, None, None, "; ".join(wrong) or "as intended")


def constants_gate(audit: Audit) -> GateResult:
    """No constant may differ by a single bit."""
    return GateResult(Gate.CONSTANTS, float(audit.mismatches), 0.0, None, None, str(audit))


def structure_gate(reference: Reference, runs: Sequence[Outputs]) -> GateResult:
    """The artifact's own graph in float32 arithmetic against the deploy form with the same rounded weights.

    Amplified inputs are judged here, and here only.
    """
    kinds = tuple(reference.structure_floors)
    floors, budget = reference.structure_floors, {kind: structure_budget(reference, kind) for kind in kinds}
    return _numeric_gate(Gate.STRUCTURE, reference, reference.structure, runs, floors, budget)


def precision_gate(reference: Reference, runs: Sequence[Outputs]) -> GateResult:
    """The arithmetic that ships against the trained form in float64, on ordinary inputs."""
    floors = ordinary(reference.floors)
    budget: Floors = {kind: precision_budget(reference, kind) for kind in floors}
    return _numeric_gate(Gate.PRECISION, reference, reference.logits, runs, floors, budget)


def agreement(reference: Reference, runs: Sequence[Outputs]) -> Agreement:
    """Top-1 of the first run over the judged ordinary images."""
    kinds = tuple(ordinary(reference.floors))
    rows = np.concatenate([reference.rows(kind) for kind in kinds])
    budget = np.concatenate([np.full(len(reference.rows(kind)), precision_budget(reference, kind)) for kind in kinds])
    return top1_agreement(runs[0].logits[rows], reference.logits[rows], budget)


def _numeric_gate(
    gate: Gate,
    reference: Reference,
    exact: Float64,
    runs: Sequence[Outputs],
    floors: Floors,
    budgets: Floors,
) -> GateResult:
    kinds = tuple(
        _kind_error(kind, reference, exact, runs, floors[kind], budgets[kind])
        for kind in floors
        if len(reference.rows(kind))
    )
    if not kinds:
        return GateResult(gate, float("nan"), 0.0, None, None, "no golden image on which the model is well conditioned")
    # What is no number compares as worst of all.
    worst = max(kinds, key=lambda k: k.worst / k.budget if k.worst < float("inf") > k.budget else float("inf"))
    over = [_over(kind) for kind in kinds if not kind.passed]
    detail = "; ".join(over) or f"worst on {worst.worst_image}, {worst.worst / worst.floor:.2f} x its floor"
    return GateResult(gate, worst.worst, worst.budget, worst.floor, worst.kind, detail, kinds)


def _over(kind: KindError) -> str:
    if not kind.floor < float("inf"):
        return f"{kind.kind}: this precision itself overflows there"
    return f"{kind.kind} {kind.worst:.1e} > {kind.budget:.1e} ({kind.worst_image})"


def _kind_error(
    kind: Kind, reference: Reference, exact: Float64, runs: Sequence[Outputs], floor: float, budget: float
) -> KindError:
    rows = reference.rows(kind)
    right = exact[rows]
    with np.errstate(all="ignore"):  # infinite logits: the figures below become NaN, and NaN fails
        return _worst_of(kind, reference, rows, right, runs, floor, budget)


def _worst_of(
    kind: Kind,
    reference: Reference,
    rows: NDArray[np.intp],
    right: Float64,
    runs: Sequence[Outputs],
    floor: float,
    budget: float,
) -> KindError:
    errors = np.stack([relative_error(run.logits[rows], right) for run in runs])  # (runs, images)
    run, image = np.unravel_index(int(np.where(np.isnan(errors), np.inf, errors).argmax()), errors.shape)
    logits = runs[int(run)].logits[rows]
    return KindError(
        kind=kind,
        worst=float(errors[run, image]),
        worst_image=reference.golden.names[int(rows[image])],
        floor=floor,
        budget=budget,
        max_abs=float(np.abs(logits - right).max()),
        cosine=float(centred_cosine(logits, right).min()),
        kl_nats=float(kl_divergence(logits, right).max()),
    )
