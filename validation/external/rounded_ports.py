"""A network in float32 behind an input or an output of float16: what rounding there costs is added to the floors."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from runtimes.external import Foreign
from runtimes.interface import OUTPUT
from runtimes.precision import Dtype
from validation.external.input_format import Range, Taken
from validation.metrics import Float64, relative_error
from validation.reference.emulation import evaluate
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference

_HALF = "float16"


def behind_ports(reference: Reference, foreign: Foreign, model: ReferenceModel, taken: Taken) -> Reference:
    """`reference`, with the error on its kinds that the file's own ports explain; of logits."""
    halves = foreign.image.dtype == _HALF, foreign.output.dtype == _HALF
    if reference.precision.rounding is Dtype.FP16 or not any(halves):
        return reference
    images = _rounded(model, taken.range) if halves[0] else model.images.double()
    answers: Float64 = evaluate(model.exact, images).numpy()
    if halves[1]:
        answers = answers.astype(np.float16).astype(np.float64)
    errors = relative_error(answers, model.logits, model.scales[OUTPUT])
    expected = reference.classifier
    more = {kind: float(errors[reference.rows(kind)].max(initial=0.0)) for kind in expected.floors}
    floors, structure = (
        {kind: floor + more[kind] for kind, floor in each.items()}
        for each in (expected.floors, expected.structure_floors)
    )
    return replace(reference, outputs={OUTPUT: replace(expected, floors=floors, structure_floors=structure)})


def _rounded(model: ReferenceModel, image_range: Range) -> torch.Tensor:
    """(n, 3, H, W): the normalized images that the file sees, whose input rounds them in the range that it takes."""
    contract = model.golden.preprocessing
    std, mean = (np.array(x, np.float64).reshape(1, 3, 1, 1) for x in (contract.std, contract.mean))
    images: NDArray[np.float64] = model.golden.images.astype(np.float64)
    if image_range is Range.NORMALIZED:
        return torch.tensor(images.astype(np.float16).astype(np.float64))
    top = 255.0 if image_range is Range.BYTES else 1.0
    taken = ((images * std + mean) * top).astype(np.float16).astype(np.float64)
    return torch.tensor((taken / top - mean) / std)
