"""The deploy form with the very constants that an artifact holds, each by the digest that the reference has of it.

So a folder is proven without the weights at hand. A constant that is not the reference's is not taken from the file.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy.image_input import ImageInput
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.digests import ZEROS, constant_digest, tensor_digest
from efficientvit.model import build
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact
from runtimes.evaluator.program import Program
from runtimes.registry import read_constants
from validation.reference.constants import IMAGE_BIAS, IMAGE_SCALE

_STORED = "_quantized"
"""Suffix of a tensor's integers."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A constant of the deploy form that the file does not hold."""

    name: str


Held = Mapping[str, NDArray[Any]]
"""The file's constants by their digests, without those that are zero."""


def constants_of(artifact: Artifact) -> Held:
    """What the file holds."""
    return {tensor_digest(value): value for _, value in read_constants(artifact) if value.any()}


def lacking(held: Held, digests: Mapping[str, str]) -> Missing | None:
    """The first constant of the reference that the file does not hold."""
    return next((Missing(name) for name, digest in digests.items() if digest != ZEROS and digest not in held), None)


def strange_constants(program: Program, digests: Mapping[str, str]) -> Mapping[str, int]:
    """What a program computes with though the reference has not its digest: how many values, by name."""
    known = set(digests.values())
    return {
        name: constant.value.size
        for name, constant in program.constants.items()
        if isinstance(constant.value, np.ndarray)
        and (constant.value.dtype.kind == "f" or constant.value.dtype.itemsize == 1)
        and constant_digest(constant.value) not in known
    }


def expected_form(artifact: Artifact, held: Held, digests: Mapping[str, str]) -> nn.Module | Missing:
    """What the artifact has to compute."""
    network = _copied(_skeleton(artifact.model))
    state: dict[str, Tensor] = {}
    for name, parameter in network.state_dict().items():
        value = _value(held, digests, name, tuple(parameter.shape))
        if value is None:
            return Missing(name)
        state[name] = value
    network.load_state_dict(state, assign=True)
    if not artifact.interface.image_input:
        return network
    scale, bias = _held(held, digests, IMAGE_SCALE, ()), _held(held, digests, IMAGE_BIAS, (1, 3, 1, 1))
    if scale is None or bias is None:
        return Missing(IMAGE_SCALE if scale is None else IMAGE_BIAS)
    return ImageInput(network, scale, bias)


@lru_cache(maxsize=2)
def _skeleton(spec: ModelSpec) -> nn.Module:
    """The deploy form's modules; its constants are of no account."""
    return to_deploy(build(spec))


def _copied(module: nn.Module) -> nn.Module:
    """The same modules anew, around the same tensors: a deep copy takes a tenth of the proof."""
    result = copy.copy(module)
    result._parameters, result._buffers = module._parameters.copy(), module._buffers.copy()
    result._modules = {name: child if child is None else _copied(child) for name, child in module._modules.items()}
    return result


def _value(held: Held, digests: Mapping[str, str], name: str, shape: tuple[int, ...]) -> Tensor | None:
    """As it is, or (integers - zero point) * scale, without rounding."""
    stored = f"{name}{_STORED}"
    if stored not in digests:
        return _held(held, digests, name, shape)
    scales = _any_shape(held, digests, f"{name}_scale")
    integers = _held(held, digests, stored, shape)
    zero = _any_shape(held, digests, f"{name}_zero_point") if f"{name}_zero_point" in digests else torch.zeros(1)
    if scales is None or integers is None or zero is None:
        return None
    return (integers - zero) * scales.reshape(-1, *[1] * (len(shape) - 1))


def _any_shape(held: Held, digests: Mapping[str, str], name: str) -> Tensor | None:
    """A flat constant."""
    value = held.get(digests.get(name, ""))
    return _held(held, digests, name, (1,) if value is None else (value.size,))


def _held(held: Held, digests: Mapping[str, str], name: str, shape: tuple[int, ...]) -> Tensor | None:
    digest = digests.get(name)
    if digest == ZEROS:
        return torch.zeros(shape, dtype=torch.float64)
    value = held.get(digest or "")
    if value is None or value.size != np.prod(shape, dtype=int):
        return None
    return torch.from_numpy(value.astype(np.float64).reshape(shape))
