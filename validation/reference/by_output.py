"""Answers by output: what a model gives, each of its outputs as (n, values), in the order in which they are declared.

PyTorch's evaluations are kept joined, (n, all values of all outputs), so that each is one array.
"""

from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor, cat

from efficientvit.head import Output
from efficientvit.model import tensors_of
from validation.metrics import Float64

ByOutput = Mapping[str, Float64]
"""(n, values) each; of evaluations (evaluations, n, values)."""


def joined(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What a model gives of (n, 3, H, W) images -> (n, all values)."""
    tensors = tensors_of(result)
    return tensors[0] if len(tensors) == 1 and tensors[0].dim() == 2 else cat([each.flatten(1) for each in tensors], 1)


def by_output(outputs: Sequence[Output], values: Float64) -> ByOutput:
    """(..., n, all values) -> each output's."""
    result: dict[str, Float64] = {}
    start = 0
    for output in outputs:
        end = start + prod(output.shape)
        result[output.name] = values[..., start:end]
        start = end
    assert start == values.shape[-1], "the outputs are not this model's"
    return result
