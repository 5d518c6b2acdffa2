"""The proof for a file of another tool, which folded the BatchNorms and rounded the result in its own way.

Each of its constants that is the checkpoint's within rounding, folded or not, is replaced by the exact value that it
was rounded from; the program then has to equal the trained form. Values are compared one by one: a constant of which
one is further off than rounding explains is not replaced, and the program differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.copies import copied
from efficientvit.errors import UnknownOperation
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from runtimes.evaluator.program import Program
from runtimes.external import Foreign
from runtimes.registry import reader_of
from validation.proof.comparison import equal
from validation.proof.known_constants import Known, exact_constants, of_preprocessing, of_the_first_convolution
from validation.proof.outcome import Outcome, Proof
from validation.proof.subject import images_for, right_of, subject_of, unproven

_FORBIDDEN = frozenset({
    "Assign", "Bernoulli", "Dropout", "If", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "ReadValue", "Scan", "TensorIterator", "cond", "coreml_update_state", "random_bernoulli",
    "random_normal", "random_uniform", "read_state", "while_loop", "write_state",
})  # fmt: skip
"""Random numbers, state and control flow: a file with one of them may give another answer the next time."""


@dataclass(frozen=True, slots=True)
class ForeignProof:
    """The proof, and whether what stands in its way must not pass. `replaced`: constants that were rounded.

    `quantized`: it is of the program without its quantizers, whose rounding is judged by samples.
    """

    proof: Proof
    refused: bool
    replaced: int = 0
    quantized: bool = False


@dataclass(frozen=True, slots=True)
class Feeding:
    """What a file takes where it normalizes the image itself: values from 0 to `top`; None: normalized images.

    `reversed`: its channels come as B G R.
    """

    top: float | None = None
    reversed: bool = False


NORMALIZED = Feeding()


class _AsFed(nn.Module):
    """(B, 3, H, W) images as the file takes them -> what the file gives."""

    def __init__(self, model: EfficientViT, feeding: Feeding, contract: Preprocessing, *, probabilities: bool) -> None:
        super().__init__()
        self.model, self.feeding, self.probabilities = model, feeding, probabilities
        mean, std = (torch.tensor(x, dtype=torch.float64).reshape(1, 3, 1, 1) for x in (contract.mean, contract.std))
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or their softmax; the sigmoid of a single one."""
        if self.feeding.reversed:
            images = torch.cat([images[:, channel : channel + 1] for channel in (2, 1, 0)], 1)
        if self.feeding.top is not None:
            images = (images / self.feeding.top - self.mean) / self.std
        y: Tensor = self.model(images)
        if not self.probabilities:
            return y
        return y.sigmoid() if y.shape[1] == 1 else y.softmax(1)


def prove_foreign(
    foreign: Foreign,
    model: EfficientViT,
    *,
    probabilities: bool,
    contract: Preprocessing | None = None,
    feeding: Feeding = NORMALIZED,
) -> ForeignProof:
    """Whether the file's program is the trained form's; of a quantized one, without its quantizers.

    `contract`: mean and std, for a file that normalizes the image itself. An approximation of them (as coremltools'
    one scale for three channels) is no identity: such a file is judged by samples.
    """
    artifact, size = foreign.artifact, foreign.artifact.model.image_size
    contract = contract or Preprocessing(size)
    read = subject_of(artifact)
    if isinstance(read, Proof):
        return ForeignProof(read, refused=_refused(read))
    steps: Mapping[str, NDArray[np.float64]] = {}
    compressed = artifact.precision.weights.compressed
    try:
        without = reader_of(artifact).unquantized(read.program) if compressed else None
    except UnknownOperation as error:
        proof = unproven(error)
        return ForeignProof(proof, refused=_refused(proof))
    if without is not None:
        read, steps = replace(read, program=without.program), without.steps
    elif artifact.precision.quantized or (compressed and _holds_integers(read.program)):
        return ForeignProof(Proof(Outcome.SAMPLED, "integers of this format are not followed"), refused=False)
    model = _with_stored_epsilons(model)
    form, images = _AsFed(model, feeding, contract, probabilities=probabilities), images_for(size, artifact.batch)
    more: list[Known] = []
    if feeding.top is not None:
        more += of_preprocessing(contract, feeding.top, images.field)
        more += of_the_first_convolution(model, contract, feeding.top, images.field)
    exact = exact_constants(read.program, model, images.field, more, steps)
    result = _result(read.program, foreign.output.name)
    labeled = tuple(name for name in read.results[1:] if name != result) if read.probabilities else ()
    subject = replace(
        read,
        results=(result, *labeled),
        probabilities=bool(labeled),
        exact=exact.values,
        channels_last=foreign.channels_last,
        compared="trained form",
        nothing_else=False,
    )
    proof = equal(subject, right_of(form, images, probabilities=bool(labeled)), artifact.batch)
    lost = tuple(name for name in exact.lost if name in proof.constants)  # what is read elsewhere explains nothing
    if proof.outcome is Outcome.DIFFERENT and lost:
        said = f"{len(lost)} constants could not be traced to the checkpoint, '{lost[0]}' for one; {proof.detail}"
        proof = Proof(Outcome.SAMPLED, said, proof.operation)
    elif proof.outcome is Outcome.DIFFERENT and (steps or feeding.top is not None):
        what = "without its quantizers" if steps else "as normalizing by the checkpoint's mean and std"
        proof = replace(proof, outcome=Outcome.SAMPLED, detail=f"{what} it differs: {proof.detail}")
    return ForeignProof(proof, _refused(proof), len(exact.values), quantized=bool(steps))


def _result(program: Program, named: str) -> str:
    """The value that the output gives. A port's name may be another value's in an IR, or nobody's."""
    return program.outputs[0] if len(program.outputs) == 1 else named


def _holds_integers(program: Program) -> bool:
    """Weights that the program itself decodes."""
    values = (constant.value for constant in program.constants.values())
    return any(isinstance(value, np.ndarray) and value.dtype in (np.int8, np.uint8) for value in values)


def _refused(proof: Proof) -> bool:
    return proof.outcome is Outcome.DIFFERENT or proof.unlike or bool(proof.kinds & _FORBIDDEN)


def _with_stored_epsilons(model: EfficientViT) -> EfficientViT:
    """A copy in float64 whose epsilons are float32 numbers, as every format stores them."""
    result = copied(model).double()
    for module in result.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = float(np.float32(module.eps))
    return result
