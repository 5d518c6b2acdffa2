"""Where quantizers are meant to stand."""

from collections.abc import Collection

import pytest
from torch import Tensor, nn

from efficientvit.size import square
from runtimes.precision import Dtype, Precision
from validation.proof.placement import placement
from validation.proof.subject import images_for


class Small(nn.Module):
    """A residual branch, a depthwise convolution, and attention of a kind."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 6, 1)
        self.project = nn.Conv2d(6, 3, 1)
        self.depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 3, 3)."""
        x = x + self.project(self.expand(x).relu())
        y = self.depthwise(x).flatten(2)
        scores = y @ y.transpose(1, 2) + 1
        mixed: Tensor = scores.softmax(2) @ scores
        return mixed


def quantized(activations: Dtype, float_layers: tuple[str, ...] = ()) -> Collection[tuple[str, str, bool]]:
    where = placement(
        Small().eval(), images_for(square(4), 1), Precision(Dtype.INT8, activations, Dtype.INT8, float_layers)
    )
    return [
        (call.kind, call.where, one)
        for call, read in zip(where.calls, where.quantized, strict=True)
        for one in read
        if call.kind in {"conv2d", "relu", "add", "matmul", "softmax"}
    ]


EXPECTED = {
    Dtype.INT8: [True, False, True, True, False, False, True, True, False, True, True, True],
    Dtype.UINT8: [True, False, True, True, True, True, True, True, True, True, True, True],
    Dtype.SYMMETRIC8: [True, False, True, True, False, True, True, True, False, True, True, True],
}
"""expand, relu, project, x + (twice), depthwise, the product (twice), + 1, softmax, the last product (twice)."""


@pytest.mark.parametrize("activations", EXPECTED)
def test_by_precision(activations: Dtype) -> None:
    assert [one for *_, one in quantized(activations)] == EXPECTED[activations]


def test_a_layer_in_float32_reads_all_as_it_is_up_to_the_next() -> None:
    found = quantized(Dtype.UINT8, ("/MatMul", "project/Conv"))
    wanted = [True, False, False, False, False, True, False, False, False, False, True, True]
    assert [one for *_, one in found] == wanted
