"""Operators of ONNX Runtime's own, which its optimizer writes into the files that it saves.

Source: ContribOperators.md of ONNX Runtime.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.evaluator import BadOperand
from runtimes.onnx.operators.arithmetic import gelu, gemm, hard_sigmoid
from runtimes.onnx.operators.normalization import layer, rms
from runtimes.onnx.operators.windows import Window, convolution

_EPSILON = float(np.float32(1e-12))
_QUICK = float(np.float32(1.702))


def _activated(x: Tensor, activation: str | None, parameters: Sequence[float]) -> Tensor:
    if activation is None:
        return x
    if (activation, len(parameters)) not in _ACTIVATIONS:
        raise BadOperand(f"activation {activation} of {len(parameters)} parameters")
    return _ACTIVATIONS[activation, len(parameters)](x, *parameters)


_ACTIVATIONS: Mapping[tuple[str, int], Callable[..., Tensor]] = {
    ("Relu", 0): lambda x: x.relu(),
    ("Sigmoid", 0): lambda x: x.sigmoid(),
    ("Tanh", 0): lambda x: x.tanh(),
    ("LeakyRelu", 1): lambda x, alpha: functional.leaky_relu(x, alpha),
    ("Clip", 2): lambda x, least, greatest: x.clamp(least, greatest),
    ("HardSigmoid", 2): hard_sigmoid,
}


def _fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    **window: Unpack[Window],
) -> Tensor:
    """`z` is added before the activation."""
    y = convolution(x, w, b, **window)
    return _activated(y if z is None else y + z, activation, activation_params)


def _fused_gemm(  # noqa: PLR0913, PLR0917 - in the order of the specification
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transa: int = 0,
    transb: int = 0,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
) -> Tensor:
    parameters = [each for each in (activation_alpha, activation_beta, activation_gamma) if each is not None]
    return _activated(gemm(a, b, c, alpha, beta, transa, transb), activation or None, parameters)


def _fused_matmul(
    a: Tensor,
    b: Tensor,
    alpha: float = 1.0,
    transa: int = 0,
    transb: int = 0,
    transbatcha: int = 0,
    transbatchb: int = 0,
) -> Tensor:
    """alpha * a @ b. `transbatch`: the first axis lies behind the others but the last."""
    operands = []
    for x, batch, turned in ((a, transbatcha, transa), (b, transbatchb, transb)):
        moved = x.movedim(0, -2) if batch else x
        operands.append(moved.mT if turned and x.dim() > 1 else moved)
    product = torch.matmul(*operands)
    return product if alpha == 1 else alpha * product


def _skip_layer(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = _EPSILON,
) -> tuple[Tensor, ...]:
    """Of the sum, which is given too, with its mean and its deviation's reciprocal."""
    total = x + skip if bias is None else x + skip + bias
    mean, variance = total.mean(-1, keepdim=True), total.var(-1, correction=0, keepdim=True)
    return layer(total, gamma, epsilon, -1, beta), mean, torch.rsqrt(variance + epsilon), total


def _fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return gelu(x if bias is None else x + bias, "tanh")


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "SimplifiedLayerNormalization": rms,
    "com.microsoft.BiasGelu": lambda a, b: gelu(a + b),
    "com.microsoft.FastGelu": _fast_gelu,
    "com.microsoft.FusedConv": _fused_conv,
    "com.microsoft.FusedGemm": _fused_gemm,
    "com.microsoft.FusedMatMul": _fused_matmul,
    "com.microsoft.Gelu": gelu,
    "com.microsoft.QuickGelu": lambda x, alpha=_QUICK: x * (alpha * x).sigmoid(),
    "com.microsoft.SkipLayerNormalization": _skip_layer,
}
