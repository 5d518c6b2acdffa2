"""PyTorch under another precision's rules: what an honest runtime of that precision would answer.

Rounding every tensor to a 16-bit format, weights and every intermediate result, with arithmetic in float32
between, is the *noise floor* of that format: a healthy artifact lies near it, a faulty one doesn't.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from efficientvit.copies import copied
from efficientvit.deploy.compression import (
    LARGEST,
    REDUCED,
    Half,
    addends,
    affine,
    compressible,
    dequantized,
    int8,
    palettized,
    quantizable,
    quantized,
)
from runtimes.precision import PALETTE_BITS, Dtype, Precision
from validation.metrics import Float64
from validation.reference.by_output import joined
from validation.reference.floors import UNIT_ROUNDOFF, narrowest
from validation.reference.memo import remembered

_Model = TypeVar("_Model", bound=nn.Module)
_IMAGES_AT_ONCE = 8
_EVALUATIONS = 3
_TORCH_DTYPE = {Dtype.FP16: torch.float16, Dtype.BF16: torch.bfloat16}


def rounded(tensor: Tensor, dtype: Dtype) -> Tensor:
    """The nearest values that `dtype` can hold, still as float32 (or as the tensor's own float64)."""
    if dtype is Dtype.FP32:
        return tensor.float().to(tensor.dtype)
    return tensor.to(_TORCH_DTYPE[dtype]).to(tensor.dtype)


@torch.no_grad()
def with_rounded_weights(model: _Model, precision: Precision) -> _Model:
    """A copy of `model` with the values that an artifact of `precision` has of its parameters and buffers."""
    result = copied(model)
    for tensor in (*result.parameters(), *result.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(rounded(tensor, precision.decoded))
    if precision.quantized:
        for name in quantizable(result, depthwise=precision.quantized_depthwise):
            if name not in precision.float_weights:
                weight = result.get_parameter(name)
                stored = quantized(weight.numpy().astype(np.float32), largest_integer(precision.weights))
                weight.copy_(torch.tensor(dequantized(*stored)))
        for name in addends(result) if precision.activations is Dtype.UINT8 else ():
            bias = result.get_parameter(name)
            integers, scale, zero = affine(bias.numpy().astype(np.float32))
            bias.copy_(torch.tensor((integers.astype(np.float32) - zero.astype(np.float32)) * scale))
    elif precision.weights.compressed:
        for name in compressible(result):
            weight = result.get_parameter(name)
            weight.copy_(torch.tensor(compressed(weight.numpy().astype(np.float16), precision.weights)))
    return result


def largest_integer(weights: Dtype) -> int:
    """The largest magnitude of weights, where activations are quantized."""
    return REDUCED if weights is Dtype.INT7 else LARGEST


def as_executed(stored: _Model, precision: Precision) -> _Model:
    """With the weights as the arithmetic takes them: bfloat16 is the runtime's doing, and the file holds more."""
    if precision.execution is not Dtype.BF16:
        return stored
    return with_rounded_weights(stored, Precision(weights=Dtype.BF16))


def compressed(weight: Half, dtype: Dtype) -> Half:
    """What a tensor decodes to from int8 or from a palette."""
    return int8(weight) if dtype is Dtype.INT8 else palettized(weight, PALETTE_BITS[dtype])


class _RoundResults(TorchDispatchMode):
    """Round what every operator returns."""

    def __init__(self, dtype: Dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dtype = dtype

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def rounded_result(value: Any) -> Any:
            if isinstance(value, Tensor) and value.is_floating_point():
                return rounded(value, self._dtype)
            return value

        return tree_map(rounded_result, func(*args, **(kwargs or {})))


def evaluate(model: nn.Module, images: Tensor, activations: Dtype = Dtype.FP32) -> Tensor:
    """(n, 3, H, W) -> (n, classes), or all values of all outputs; intermediates rounded to `activations`. Remembered.

    Of several evaluations that belong together, `answers` of each in one `remembered` is cheaper.
    """
    values = remembered(f"evaluate in {activations}", model, (images,), lambda: answers(model, images, activations))
    return torch.tensor(values).to(images.dtype)  # float64 holds what float32 gave: it comes back as it was


@torch.no_grad()
def answers(model: nn.Module, images: Tensor, activations: Dtype = Dtype.FP32) -> NDArray[np.float64]:
    """What `evaluate` gives, evaluated now; in parts, to bound memory."""
    parts = images.split(_IMAGES_AT_ONCE)
    if activations is Dtype.FP32:
        values = torch.cat([joined(model(part)) for part in parts])
    else:
        with _RoundResults(activations):
            values = torch.cat([joined(model(rounded(part, activations))) for part in parts])
    return np.asarray(values.double().numpy())


def evaluations(model: nn.Module, images: Tensor, precision: Precision, count: int = _EVALUATIONS) -> Float64:
    """(count, n, classes), or all values of all outputs: on the images, and on copies that differ by roundings."""
    rounding, unit = precision.rounding, narrowest(precision)

    def compute() -> Float64:
        return np.stack([answers(model, each, rounding) for each in _perturbed(images, unit, count)])

    return remembered(f"{count} evaluations in {rounding}, apart by {unit}", model, (images,), compute)


def _perturbed(images: Tensor, dtype: Dtype, count: int) -> list[Tensor]:
    """The images, and copies of them with every value moved by about one unit in the format's last place."""
    generator = torch.Generator().manual_seed(0)
    copies = [images]
    for _ in range(count - 1):
        sign = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int8) * 2 - 1
        # In float64: in float32 itself 1 + 2^-24 is 1.
        copies.append((images.double() * (1 + sign * UNIT_ROUNDOFF[dtype])).float())
    return copies
