"""What structure and precision share: the error of each kind of input in units of that kind's own budget.

One chaotic kind must not open the gate for the others.
"""

from collections.abc import Sequence

import numpy as np

from validation.gates.result import GateResult, KindError
from validation.golden_run import Outputs
from validation.inputs.golden_set import Kind
from validation.metrics import Float64, centered_cosine, kl_divergence, relative_error, scale_of
from validation.reference.floors import Floors
from validation.reference.reference import Reference


def numeric_gate(
    name: str, reference: Reference, exact: Float64, runs: Sequence[Outputs], floors: Floors, budgets: Floors
) -> GateResult:
    """The worst kind: relative error of its worst image over all runs against `exact`, over its budget."""
    with np.errstate(all="ignore"):  # infinite logits: the figures below become NaN, and NaN fails
        kinds = tuple(
            _worst_of(kind, reference, exact, runs, floors[kind], budgets[kind])
            for kind in floors
            if len(reference.rows(kind))
        )
    if not kinds:
        return GateResult(name, float("nan"), 0.0, "no golden image on which the model is well conditioned")
    # NaN counts as the worst of all.
    worst = max(kinds, key=lambda k: k.worst / k.budget if k.worst < float("inf") > k.budget else float("inf"))
    over = [_over(kind) for kind in kinds if not kind.passed]
    detail = "; ".join(over) or f"worst on {worst.worst_image}, {worst.worst / worst.floor:.2f} x its floor"
    return GateResult(name, worst.worst, worst.budget, detail, worst.floor, worst.kind, kinds)


def _over(kind: KindError) -> str:
    if not kind.floor < float("inf"):
        return f"{kind.kind}: this precision itself overflows there"
    return f"{kind.kind} {kind.worst:.1e} > {kind.budget:.1e} ({kind.worst_image})"


def _worst_of(
    kind: Kind, reference: Reference, exact: Float64, runs: Sequence[Outputs], floor: float, budget: float
) -> KindError:
    rows = reference.rows(kind)
    right, scale = exact[rows], scale_of(exact, reference.golden.ordinary_rows)[rows]
    errors = np.stack([relative_error(run.logits[rows], right, scale) for run in runs])  # (runs, images)
    run, image = np.unravel_index(int(np.where(np.isnan(errors), np.inf, errors).argmax()), errors.shape)
    logits = runs[int(run)].logits[rows]
    return KindError(
        kind=kind,
        worst=float(errors[run, image]),
        worst_image=reference.golden.names[int(rows[image])],
        floor=floor,
        budget=budget,
        max_abs=float(np.abs(logits - right).max()),
        cosine=float(centered_cosine(logits, right).min()),
        kl_nats=float(kl_divergence(logits, right).max()),
    )
