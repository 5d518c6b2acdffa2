"""Gates of the first stage, trained form to deploy form, which makes no file."""

import numpy as np

from efficientvit.deploy import rewritten
from runtimes.artifact import Precision
from validation.arithmetic import evaluate
from validation.gates import Gate, GateResult, ordinary
from validation.metrics import relative_error
from validation.reference import ReferenceModel

EXACT = 1e-12
"""Rewrites are identities of real arithmetic: in float64 nothing but rounding moves the logits."""

FLOOR_RATIO = 1.5
"""How much worse the deploy form may do in float32 than the trained form, or a rewrite costs accuracy."""


def rewrite_gates(reference: ReferenceModel) -> tuple[GateResult, GateResult]:
    """Structure: float64 against float64, on the inputs that are judged. Precision: float32 floor against floor."""
    exact = evaluate(rewritten(reference.trained), reference.images.double()).numpy()
    errors = np.where(reference.judged, relative_error(exact, reference.logits), 0.0)
    row = int(np.where(np.isnan(errors), np.inf, errors).argmax())
    structure = GateResult(
        Gate.STRUCTURE,
        float(errors[row]),
        EXACT,
        None,
        reference.golden.kinds[row],
        f"deploy form in float64, worst on {reference.golden.names[row]}",
    )
    ours, theirs = reference.at(Precision()).floors, reference.trained_floors()
    ratio = {kind: ours[kind] / theirs[kind] for kind in ordinary(ours)}
    if not ratio:
        return structure, GateResult(Gate.PRECISION, float("nan"), 0.0, None, None, "no well conditioned image")
    worst = max(ratio, key=ratio.__getitem__)
    detail = f"float32 floor {ratio[worst]:.2f} x the trained form's"
    return structure, GateResult(Gate.PRECISION, ours[worst], FLOOR_RATIO * theirs[worst], theirs[worst], worst, detail)
