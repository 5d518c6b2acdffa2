"""Which exact value each constant of another tool's file was rounded from, if it is the checkpoint's at all.

Values are compared one by one: a constant of which one is further off than rounding explains is nobody's.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy.rewrites import REWRITES, rewritten
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import CascadedGroupAttention, Classifier, ConvNorm, EfficientViT
from efficientvit.spec import KEY_DIM
from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.tensor import Field
from runtimes.evaluator.field.writing import Writing
from runtimes.evaluator.program import Program
from validation.proof.rewrites import in_field

_SMALL = 8
"""Smaller constants that are not the checkpoint's are axes, sizes, factors: taken as they are."""

_ROUNDINGS = 16 * 2.0**-24
"""What folding in float32 may cost, relative: sixteen half units in the last place."""

_STORED = {np.dtype(np.float16): (1.01 * 2.0**-11, 2.0**-25)}
"""What storing in less than float32 costs, once: relative, and absolute below the smallest normal number."""


Steps = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Known:
    """A tensor of the checkpoint: its value, how far rounding may move each entry, and what gives it exactly.

    Most forms of most tensors are in no file, and an exact one takes as long to make as all else here.
    """

    value: NDArray[np.float64]
    scale: NDArray[np.float64]
    exact: Callable[[], FieldTensor]


@dataclass(frozen=True, slots=True)
class Exact:
    """`values`: of the file's constants that were rounded, exactly, by name. `lost`: those that are nobody's."""

    values: Mapping[str, Tensor]
    lost: tuple[str, ...]


@torch.no_grad()
def exact_constants(
    program: Program, model: EfficientViT, field: Field, more: Iterable[Known] = (), steps: Steps = MappingProxyType({})
) -> Exact:
    """Look for each constant among those of the checkpoint, folded or not, and `more`.

    `steps`: of constants that were stored as integers, how far that moved each value at most.
    """
    by_size: dict[int, list[Known]] = {}
    for tensor in (*_tensors(model, field), *_of_the_deploy_form(model, field), *more):
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
        matches = (_rounded_from(value, other, steps.get(name)) for other in by_size.get(value.size, ()))
        found = min((match for match in matches if match is not None), key=_roughly, default=None)
        if found is not None:
            exact[name] = found[1]()
        elif value.size >= _SMALL:
            lost.append(name)
    return Exact(exact, tuple(lost))


def _roughly(match: tuple[float, object]) -> float:
    """How far off it is, to three digits: of forms that are the same number, the first is the cheapest to make."""
    return float(f"{match[0]:.2e}")


def _rounded_from(
    value: NDArray[np.floating], tensor: Known, step: NDArray[np.float64] | None
) -> tuple[float, Callable[[], FieldTensor]] | None:
    """How far off, and what gives the tensor in the constant's shape, if each entry is the tensor's within rounding."""
    relative, smallest = _STORED.get(value.dtype, (0.0, 0.0))
    absolute = smallest if step is None else step.reshape(-1) * (1 + _ROUNDINGS)
    first, spread = (float(each.flat[0]) for each in (tensor.value, tensor.scale))  # in every layout
    if not abs(float(value.flat[0]) - first) <= _ROUNDINGS * spread + relative * abs(first) + np.ravel(absolute)[0]:
        return None
    layouts: list[tuple[int, ...]] = [tuple(range(tensor.value.ndim))]
    if tensor.value.ndim == 2:
        layouts.append((1, 0))
    elif tensor.value.ndim == 4:  # O I H W -> H W I O, O H W I, and a matrix transposed
        layouts += [(2, 3, 1, 0), (0, 2, 3, 1)]
    mine = value.astype(np.float64).reshape(-1)
    for layout in layouts:
        there, scale = (each.transpose(layout).reshape(-1) for each in (tensor.value, tensor.scale))
        off = np.abs(mine - there)
        if bool((off <= _ROUNDINGS * scale + relative * np.abs(there) + absolute).all()):
            return float(np.linalg.norm(off)), functools.partial(_laid_out, tensor, layout, value.shape)
    return None


def _laid_out(tensor: Known, layout: tuple[int, ...], shape: tuple[int, ...]) -> FieldTensor:
    exact = tensor.exact()
    residues = exact.residues.permute(0, *(axis + 1 for axis in layout))
    return exact.like(residues.reshape(residues.shape[0], *shape))


def of_preprocessing(contract: Preprocessing, top: float, field: Field) -> Iterator[Known]:
    """What a file holds that normalizes values from 0 to `top` itself: mean, std, their quotients, and the like."""
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (contract.mean, contract.std))
    m, s, t = (field.constant(x) for x in (mean, std, torch.full((3,), top, dtype=torch.float64)))
    for exact, value in (
        (m, mean), (-m, -mean), (s, std), (1 / s, 1 / std), (m / s, mean / std), (-m / s, -mean / std),
        (t, torch.full((3,), top)), (1 / t, torch.full((3,), 1 / top)), (t * m, top * mean), (-t * m, -top * mean),
        (t * s, top * std), (1 / (t * s), 1 / (top * std)),
    ):  # fmt: skip
        number = value.double().numpy()
        yield Known(number, np.abs(number), functools.partial(_field, exact))
        if len(set(number.tolist())) == 1:
            yield Known(number[:1], np.abs(number[:1]), functools.partial(_field, _field(exact)[:1]))


@torch.no_grad()
def of_the_first_convolution(model: EfficientViT, contract: Preprocessing, top: float, field: Field) -> Iterator[Known]:
    """Its weights where they divide by std as well, or by `top` times std: what a file that takes pixels may hold."""
    stem = model.stem[0]
    assert isinstance(stem, ConvNorm)
    plain, _ = _folded(stem, field)
    std = torch.tensor(contract.std, dtype=torch.float64).reshape(1, 3, 1, 1)
    for factor in (1.0, top):
        value = plain.value / (factor * std).numpy()
        yield Known(value, np.abs(value), functools.partial(_divided, plain, field.constant(std) * factor))


def _divided(plain: Known, divisor: Tensor) -> FieldTensor:
    return _field(plain.exact() / divisor)


def _tensors(model: EfficientViT, field: Field) -> Iterator[Known]:
    """Those of the trained form, the gathered attention biases, and what folding every BatchNorm makes of them."""
    yield _as_it_is(torch.tensor([KEY_DIM**-0.5]), field)
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


def _of_the_deploy_form(model: EfficientViT, field: Field) -> Iterator[Known]:
    """What this project exports holds."""

    @functools.cache
    def form() -> Mapping[str, Tensor]:
        found = in_field(model, field)
        with Writing(field):
            for rewrite in REWRITES:
                found = rewrite(found)
        return dict(found.named_parameters())

    def exactly(name: str) -> FieldTensor:
        return _field(form()[name])

    for name, tensor in rewritten(model).named_parameters():
        value = tensor.detach().double().numpy()
        yield Known(value, np.abs(value), functools.partial(exactly, name))


def _as_it_is(tensor: Tensor, field: Field) -> Known:
    value = tensor.double().numpy()
    return Known(value, np.abs(value), lambda: field.constant(tensor))


@torch.no_grad()
def _folded(module: ConvNorm, field: Field) -> Iterator[Known]:
    """The convolution's weight and bias."""
    norm = _Norm(module.norm, field)
    weight, shape = module.conv.weight.detach(), (-1, 1, 1, 1)
    value = weight.double().numpy() * norm.scale.value.reshape(shape)
    yield Known(value, np.abs(value), lambda: _field(field.constant(weight) * norm.scale.exact().reshape(shape)))
    yield norm.shift


@torch.no_grad()
def _folded_into_linear(linear: nn.Linear, norm: nn.BatchNorm1d, field: Field) -> Iterator[Known]:
    folded = _Norm(norm, field)
    yield from (folded.scale, folded.shift)
    weight, bias = linear.weight.detach(), linear.bias.detach()
    numbers, offset = weight.double().numpy(), bias.double().numpy()
    value = numbers * folded.scale.value
    exact = functools.cache(lambda: field.constant(weight))
    yield Known(value, np.abs(value), lambda: _field(exact() * folded.scale.exact()))
    largest = np.abs(offset) + np.abs(numbers) @ folded.shift.scale
    yield Known(
        offset + numbers @ folded.shift.value,
        largest,
        lambda: _field(field.constant(bias) + (exact() @ folded.shift.exact()[:, None])[:, 0]),
    )


class _Norm:
    """A BatchNorm as scale and shift."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, field: Field) -> None:
        tensors = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        gamma, beta, mean, variance = (tensor.detach() for tensor in tensors if tensor is not None)
        root = functools.cache(lambda: field.constant(gamma) * (field.constant(variance) + norm.eps).rsqrt())
        scale = gamma.double().numpy() / np.sqrt(variance.double().numpy() + norm.eps)
        self.scale = Known(scale, np.abs(scale), lambda: _field(root()))
        offset, middle = beta.double().numpy(), mean.double().numpy() * scale
        self.shift = Known(
            offset - middle,
            np.abs(offset) + np.abs(middle),
            lambda: _field(field.constant(beta) - field.constant(mean) * root()),
        )


def _field(value: Tensor) -> FieldTensor:
    assert isinstance(value, FieldTensor)
    return value
