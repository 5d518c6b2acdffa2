"""The proof for a file of another tool, which folded the BatchNorms and rounded the result in its own way.

Each of its constants that is the checkpoint's within rounding, folded or not, is replaced by the exact value that it
was rounded from; the program then has to equal the trained form. Values are compared one by one: a constant of which
one is further off than rounding explains is not replaced, and the program differs.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy.rewrites import REWRITES, rewritten
from efficientvit.model import CascadedGroupAttention, Classifier, ConvNorm, EfficientViT
from runtimes.evaluator.program import Program
from runtimes.external import Foreign
from runtimes.field.operators import FieldTensor
from runtimes.field.tensor import Field
from runtimes.field.writing import Writing
from validation.proof.comparison import equal
from validation.proof.outcome import Outcome, Proof
from validation.proof.rewrites import in_field
from validation.proof.subject import images_for, right_of, subject_of

_SMALL = 8
"""Smaller constants that are not the checkpoint's are axes, sizes, factors: taken as they are."""

_ROUNDINGS = 16 * 2.0**-24
"""What folding in float32 may cost, relative: sixteen half units in the last place."""

_STORED = {np.dtype(np.float16): (1.01 * 2.0**-11, 2.0**-25)}
"""What storing in less than float32 costs, once: relative, and absolute below the smallest normal number."""

_FORBIDDEN = frozenset({
    "Bernoulli", "Dropout", "If", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Scan", "TensorIterator", "cond", "random_bernoulli", "random_normal", "random_uniform",
    "while_loop",
})  # fmt: skip
"""Random numbers and control flow: a file with one of them may give another answer the next time."""


@dataclass(frozen=True, slots=True)
class ForeignProof:
    """The proof, and whether what stands in its way must not pass. `replaced`: constants that were rounded."""

    proof: Proof
    refused: bool
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of the checkpoint: its value, how far rounding may move each entry, and exactly."""

    value: NDArray[np.float64]
    scale: NDArray[np.float64]
    exact: FieldTensor


class _AsFed(nn.Module):
    """(B, 3, H, W) normalized images -> what the file gives."""

    def __init__(self, model: EfficientViT, *, probabilities: bool) -> None:
        super().__init__()
        self.model, self.probabilities = model, probabilities

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or their softmax."""
        y: Tensor = self.model(images)
        return y.softmax(1) if self.probabilities else y


def prove_foreign(foreign: Foreign, model: EfficientViT, *, probabilities: bool) -> ForeignProof:
    """Whether the program of a float file is the trained form's, for normalized images."""
    artifact, size = foreign.artifact, foreign.artifact.model.image_size
    read = subject_of(artifact)
    if isinstance(read, Proof):
        return ForeignProof(read, refused=_refused(read))
    model = _with_stored_epsilons(model)
    form, images = _AsFed(model, probabilities=probabilities), images_for(size, artifact.batch)
    exact, lost = _exact_constants(read.program, model, images.field)
    subject = replace(read, output=foreign.output.name, probabilities="", exact=exact, compared="trained form",
                      channels_last=foreign.channels_last, nothing_else=False)  # fmt: skip
    proof = equal(subject, right_of(form, images), artifact.batch)
    lost = tuple(name for name in lost if name in proof.constants)  # what is read elsewhere explains nothing
    if proof.outcome is Outcome.DIFFERENT and lost:
        said = f"{len(lost)} constants could not be traced to the checkpoint, '{lost[0]}' for one; {proof.detail}"
        proof = Proof(Outcome.SAMPLED, said, proof.operation)
    return ForeignProof(proof, _refused(proof), len(exact))


def _refused(proof: Proof) -> bool:
    return proof.outcome is Outcome.DIFFERENT or proof.unlike or bool(proof.kinds & _FORBIDDEN)


def _exact_constants(program: Program, model: EfficientViT, field: Field) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The file's constants that were rounded, by name, exactly; and the names of those that are nobody's."""
    by_size: dict[int, list[_Tensor]] = {}
    for tensor in (*_tensors(model, field), *_of_the_deploy_form(model, field)):
        by_size.setdefault(tensor.value.size, []).append(tensor)
    exact: dict[str, Tensor] = {}
    lost: list[str] = []
    epsilons = {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)}
    for name, constant in program.constants.items():
        value = constant.value
        if isinstance(value, np.ndarray) and value.dtype == np.float16 and value.size == 1:
            rounded = (epsilon for epsilon in epsilons if value.item() == np.float16(epsilon))
            exact.update((name, torch.full(value.shape, epsilon, dtype=torch.float64)) for epsilon in rounded)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.any():
            continue
        matches = (_rounded_from(value, other) for other in by_size.get(value.size, ()))
        found = next((match for match in matches if match is not None), None)
        if found is not None:
            exact[name] = found
        elif value.size >= _SMALL:
            lost.append(name)
    return exact, tuple(lost)


def _rounded_from(value: NDArray[np.floating], tensor: _Tensor) -> FieldTensor | None:
    """The tensor in the constant's shape, if each entry of the constant is the tensor's within rounding."""
    layouts: list[tuple[int, ...]] = [tuple(range(tensor.value.ndim))]
    if tensor.value.ndim == 2:
        layouts.append((1, 0))
    elif tensor.value.ndim == 4:  # O I H W -> H W I O, O H W I, and a matrix transposed
        layouts += [(2, 3, 1, 0), (0, 2, 3, 1)]
    mine = value.astype(np.float64).reshape(-1)
    relative, absolute = _STORED.get(value.dtype, (0.0, 0.0))
    for layout in layouts:
        there, scale = (each.transpose(layout).reshape(-1) for each in (tensor.value, tensor.scale))
        if bool((np.abs(mine - there) <= _ROUNDINGS * scale + relative * np.abs(there) + absolute).all()):
            residues = tensor.exact.residues.permute(0, *(axis + 1 for axis in layout))
            return tensor.exact.like(residues.reshape(residues.shape[0], *value.shape))
    return None


def _tensors(model: EfficientViT, field: Field) -> Iterator[_Tensor]:
    """Those of the trained form, the gathered attention biases, and what folding every BatchNorm makes of them."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            yield _as_it_is(tensor.detach(), field)
    for module in model.modules():
        if isinstance(module, CascadedGroupAttention):
            biases = module.bias.detach()[:, module.bias_index]
            yield from (_as_it_is(each, field) for each in (biases, *biases))
        elif isinstance(module, ConvNorm):
            yield from _folded(module, field)
        elif isinstance(module, Classifier):
            assert isinstance(module.norm, nn.BatchNorm1d)
            yield from _folded_into_linear(module.linear, module.norm, field)


def _of_the_deploy_form(model: EfficientViT, field: Field) -> Iterator[_Tensor]:
    """What this project exports holds."""
    form = in_field(model, field)
    with torch.no_grad(), Writing(field):
        for rewrite in REWRITES:
            form = rewrite(form)
    numbers = rewritten(model).state_dict()
    for name, exact in form.named_parameters():
        value = numbers[name].double().numpy()
        yield _Tensor(value, np.abs(value), _field(exact))


def _as_it_is(tensor: Tensor, field: Field) -> _Tensor:
    value = tensor.double().numpy()
    return _Tensor(value, np.abs(value), field.constant(tensor))


@torch.no_grad()
def _folded(module: ConvNorm, field: Field) -> Iterator[_Tensor]:
    """The convolution's weight and bias."""
    norm = _Norm(module.norm, field)
    weight, shape = module.conv.weight.detach(), (-1, 1, 1, 1)
    value = weight.double().numpy() * norm.scale.value.reshape(shape)
    yield _Tensor(value, np.abs(value), _field(field.constant(weight) * norm.scale.exact.reshape(shape)))
    yield norm.shift


@torch.no_grad()
def _folded_into_linear(linear: nn.Linear, norm: nn.BatchNorm1d, field: Field) -> Iterator[_Tensor]:
    folded = _Norm(norm, field)
    yield from (folded.scale, folded.shift)
    weight, bias = linear.weight.detach(), linear.bias.detach()
    numbers, offset = weight.double().numpy(), bias.double().numpy()
    value = numbers * folded.scale.value
    exact = field.constant(weight)
    yield _Tensor(value, np.abs(value), _field(exact * folded.scale.exact))
    moved = _field(field.constant(bias) + (exact @ folded.shift.exact[:, None])[:, 0])
    largest = np.abs(offset) + np.abs(numbers) @ folded.shift.scale
    yield _Tensor(offset + numbers @ folded.shift.value, largest, moved)


class _Norm:
    """A BatchNorm as scale and shift."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, field: Field) -> None:
        tensors = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        gamma, beta, mean, variance = (tensor.detach() for tensor in tensors if tensor is not None)
        root = field.constant(gamma) * (field.constant(variance) + norm.eps).rsqrt()
        scale = gamma.double().numpy() / np.sqrt(variance.double().numpy() + norm.eps)
        self.scale = _Tensor(scale, np.abs(scale), _field(root))
        offset, middle = beta.double().numpy(), mean.double().numpy() * scale
        exact = _field(field.constant(beta) - field.constant(mean) * root)
        self.shift = _Tensor(offset - middle, np.abs(offset) + np.abs(middle), exact)


def _field(value: Tensor) -> FieldTensor:
    assert isinstance(value, FieldTensor)
    return value


def _with_stored_epsilons(model: EfficientViT) -> EfficientViT:
    """A copy in float64 whose epsilons are float32 numbers, as every format stores them."""
    result = copy.deepcopy(model).double()
    for module in result.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = float(np.float32(module.eps))
    return result
