"""A network in float32 behind an input or an output of float16: what rounding there costs is added to the floors."""

from dataclasses import replace

import numpy as np
import torch

from runtimes.external import Foreign
from runtimes.interface import OUTPUT
from runtimes.precision import Dtype
from validation.external.input_format import TOP, Range, Taken, mean_and_std, network_feed
from validation.metrics import Float64, relative_error
from validation.reference.emulation import evaluate
from validation.reference.floors import Floors
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference

_HALF = "float16"


def rounding_of_ports(foreign: Foreign, model: ReferenceModel, taken: Taken) -> Float64 | None:
    """(n,): the error of the right logits, of inputs and in outputs that the file rounds; None if that adds nothing."""
    halves = foreign.image.dtype == _HALF, foreign.output.dtype == _HALF
    precision = foreign.artifact.precision
    coarse = precision.rounding is Dtype.FP16 and precision.weights is not Dtype.FP32  # no floor is finer than that
    if coarse or not any(halves):
        return None
    images = _rounded(model, taken.range) if halves[0] else model.images.double()
    answers: Float64 = evaluate(model.exact, images).numpy()
    if halves[1]:
        answers = answers.astype(np.float16).astype(np.float64)
    return relative_error(answers, model.logits, model.scales[OUTPUT])


def behind_ports(reference: Reference, errors: Float64 | None) -> Reference:
    """`reference`, with the errors of `rounding_of_ports` on top of its floors, if it does not round as coarsely."""
    if errors is None or reference.precision.rounding is Dtype.FP16:
        return reference
    expected = reference.classifier

    def wider(floors: Floors) -> Floors:
        return {kind: floor + float(errors[reference.rows(kind)].max(initial=0.0)) for kind, floor in floors.items()}

    outputs = {
        OUTPUT: replace(expected, floors=wider(expected.floors), structure_floors=wider(expected.structure_floors))
    }
    return replace(reference, outputs=outputs)


def _rounded(model: ReferenceModel, image_range: Range) -> torch.Tensor:
    """(n, 3, H, W): the normalized images that the file sees, whose input rounds them in the range that it takes."""
    fed = network_feed(model, image_range)(model.golden.images).astype(np.float16).astype(np.float64)
    mean, std = mean_and_std(model)
    return torch.tensor(fed if image_range is Range.NORMALIZED else (fed / TOP[image_range] - mean) / std)
