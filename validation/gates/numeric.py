"""What structure and precision share: the error of each kind of input in units of that kind's own budget.

One chaotic kind must not open the gate for the others, and neither may one output of several.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.interface import OUTPUT
from validation.gates.result import GateResult, KindError
from validation.golden_run import Outputs
from validation.inputs.golden_set import Kind
from validation.metrics import Float64, centered_cosine, kl_divergence, relative_error, scale_of
from validation.reference.floors import Floors
from validation.reference.reference import Reference


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What one output is compared with, (n, values), and its floors and budgets by kind."""

    output: str
    exact: Float64
    floors: Floors
    budgets: Floors


def numeric_gate(name: str, reference: Reference, outputs: Sequence[Comparison], runs: Sequence[Outputs]) -> GateResult:
    """The worst kind of any output: relative error of its worst image over all runs, over its budget."""
    with np.errstate(all="ignore"):  # infinite values: the figures below become NaN, and NaN fails
        kinds = tuple(
            _worst_of(kind, reference, output, runs)
            for output in outputs
            for kind in output.floors
            if len(reference.rows(kind))
        )
    if not kinds:
        return GateResult(name, float("nan"), 0.0, "no golden image on which the model is well conditioned")
    # NaN counts as the worst of all.
    worst = max(kinds, key=lambda k: k.worst / k.budget if k.worst < float("inf") > k.budget else float("inf"))
    over = [_over(kind) for kind in kinds if not kind.passed]
    at = f"{worst.output} on {worst.worst_image}" if _named(worst) else f"on {worst.worst_image}"
    detail = "; ".join(over) or f"worst {at}, {worst.worst / worst.floor:.2f} x its floor"
    return GateResult(name, worst.worst, worst.budget, detail, worst.floor, worst.kind, kinds)


def _named(kind: KindError) -> bool:
    """Whether it has to be said which output it is."""
    return kind.output != OUTPUT


def _over(kind: KindError) -> str:
    at = f"{kind.output}, {kind.kind}" if _named(kind) else str(kind.kind)
    if not kind.floor < float("inf"):
        return f"{at}: this precision itself overflows there"
    return f"{at} {kind.worst:.1e} > {kind.budget:.1e} ({kind.worst_image})"


def _worst_of(kind: Kind, reference: Reference, output: Comparison, runs: Sequence[Outputs]) -> KindError:
    rows, name = reference.rows(kind), output.output
    right, scale = output.exact[rows], scale_of(output.exact, reference.golden.ordinary_rows)[rows]
    errors = np.stack([relative_error(run.values[name][rows], right, scale) for run in runs])  # (runs, images)
    run, image = np.unravel_index(int(np.where(np.isnan(errors), np.inf, errors).argmax()), errors.shape)
    values = runs[int(run)].values[name][rows]
    return KindError(
        output=name,
        kind=kind,
        worst=float(errors[run, image]),
        worst_image=reference.golden.names[int(rows[image])],
        floor=output.floors[kind],
        budget=output.budgets[kind],
        max_abs=float(np.abs(values - right).max()),
        cosine=float(centered_cosine(values, right).min()),
        kl_nats=float(kl_divergence(values, right).max()) if name == OUTPUT else None,
    )
