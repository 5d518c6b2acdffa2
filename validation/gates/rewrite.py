"""Gates of the first stage, trained form to deploy form, which makes no file."""

import numpy as np
import torch

from efficientvit.deploy.image_input import divided_by_std
from validation.gates.result import GateResult
from validation.inputs.golden_set import Kind
from validation.metrics import FEW
from validation.proof.rewrites import misrounded, unproven
from validation.reference.emulation import evaluate
from validation.reference.model import ReferenceModel

EXACT = 1e-12
"""Rewrites are identities of real arithmetic: in float64 nothing but rounding moves the results."""

FLOOR_RATIO = 1.5
"""How much worse the deploy form may do in float32 than the trained form, or a rewrite costs accuracy."""


FEW_FLOOR_RATIO = 3.0
"""The same of a few logits, whose errors show the ratio but roughly."""


def rewrite_gates(reference: ReferenceModel, *, image_input: bool = False) -> tuple[GateResult, GateResult]:
    """Structure: float64 against float64 on the ordinary judged inputs. Precision: float32 error against error.

    With `image_input` it is the form behind an 8-bit image that must be exact.
    """
    model, images = reference.rewritten, reference.images.double()
    if image_input:
        std = reference.golden.preprocessing.std
        model, images = divided_by_std(model, std), images * torch.tensor(std, dtype=images.dtype).reshape(1, 3, 1, 1)
    exact = reference.split(evaluate(model, images).numpy())
    ordinary = reference.judged & (np.array(reference.golden.kinds) != Kind.AMPLIFIED)
    errors = np.where(ordinary, reference.worst_errors(exact), 0.0)
    row = int(np.where(np.isnan(errors), np.inf, errors).argmax())
    structure = GateResult(
        "structure",
        float(errors[row]),
        EXACT,
        f"deploy form in float64, worst on {reference.golden.names[row]}",
        kind=reference.golden.kinds[row],
    )
    deploy, trained = reference.float32_cost
    detail = f"float32 error typically {deploy / trained:.2f} x the trained form's"
    few = any(right.shape[1] <= FEW for right in reference.right.values())
    ratio = FEW_FLOOR_RATIO if few else FLOOR_RATIO
    precision = GateResult("precision", deploy, ratio * trained, detail, trained)
    return structure, precision


def proof_gates(reference: ReferenceModel) -> tuple[GateResult, GateResult]:
    """Identity: rewrites not proven, the first by name. Constants: values that were not rounded once."""
    wrong = unproven(reference.trained)
    said = "the rewrites together are proven an identity, for any number of images"
    if wrong:
        said = f"rewrite '{wrong[0].name}' is not proven: {wrong[0].detail}"
    identity = GateResult("identity", float(len(wrong)), 0.0, said)
    off = misrounded(reference.trained, reference.deploy)
    told = "every constant is its exact value, rounded to float32 once"
    if off:
        told = f"'{off[0].name}' is not its exact value rounded once: off by {off[0].ulps:.7g} units in the last place"
    return identity, GateResult("constants", float(sum(each.wrong for each in off)), 0.0, told)
