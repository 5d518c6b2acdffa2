"""Equal programs are equal, different ones are told, and what treats one image unlike another is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import Residues
from runtimes.evaluator.field.sizes import sizes
from runtimes.evaluator.field.tensor import Field, NoMeaning

RESIDUES = Residues(11)
Program = Callable[[Tensor], Tensor]
W = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(4, 4)
X = (2, 4, 6)


def values(program: Program, shape: tuple[int, ...] = X) -> FieldTensor:
    with torch.no_grad():
        result = program(Field(RESIDUES, shape[0], uniform=True).images(shape))
    assert isinstance(result, FieldTensor)
    return result


def equal(a: Program, b: Program) -> bool:
    return RESIDUES.equal(values(a).residues, values(b).residues)


EQUAL: dict[str, tuple[Program, Program]] = {
    "a product transposed": (lambda x: (W @ x).mT, lambda x: x.mT @ W.T),
    "a sum the other way round": (lambda x: x + W[0, 0] + x, lambda x: 2 * x + W[0, 0]),
    "a mean as a sum": (lambda x: x.mean(2), lambda x: x.sum(2) * (1 / 2) / 3),
    "a factor moved over a product": (lambda x: (0.25 * W) @ x, lambda x: 0.25 * (W @ x)),
    "a shift within a softmax": (lambda x: x.softmax(1), lambda x: (x + W[:, :1] * x[:, :1]  - x * 0 - W[:, :1] * x[:, :1] + 3).softmax(1)),  # noqa: E501
    "a softmax spelled out": (
        lambda x: x.softmax(1),
        lambda x: (x - x.amax(1, keepdim=True)).exp() / (x - x.amax(1, keepdim=True)).exp().sum(1, keepdim=True),
    ),
    "a cumulative sum": (lambda x: x.cumsum(1)[:, -1], lambda x: x.sum(1)),
    "its differences": (lambda x: x.cumsum(2)[:, :, 1:] - x.cumsum(2)[:, :, :-1], lambda x: x[:, :, 1:]),
    "a maximum shifted": (lambda x: (x + 3).amax(2), lambda x: x.amax(2) + 3),
    "a softmax transposed": (lambda x: x.softmax(1).mT, lambda x: x.mT.softmax(2)),
    "a product with a softmax, divided late": (lambda x: x.softmax(2) @ x.mT, lambda x: x.softmax(2) @ x.mT * 1.0),
    "a split and a join": (lambda x: x, lambda x: torch.cat(list(x.split([1, 3], 1)), 1)),
    "chunks": (lambda x: x[:, 2:], lambda x: x.chunk(2, 1)[1]),
    "a relu as a maximum": (lambda x: x.relu(), lambda x: torch.maximum(torch.zeros(()), x)),
    "a relu as a clamp": (lambda x: x.relu(), lambda x: x.clamp(0, float("inf"))),
    "relu6": (functional.relu6, lambda x: torch.minimum(x.relu(), torch.tensor(6.0))),
    "silu": (functional.silu, lambda x: x.sigmoid() * x),
    "gelu": (functional.gelu, lambda x: x * (1 + torch.erf(x * 0.5**0.5)) * 0.5),
    "a linear layer as a convolution": (
        lambda x: functional.linear(x.mT, W, W[0]).mT,
        lambda x: functional.conv2d(x.unsqueeze(3), W[:, :, None, None], W[0]).squeeze(3),
    ),
    "a pooling as a mean": (
        lambda x: functional.adaptive_avg_pool2d(x.unflatten(2, (2, 3)), 1),
        lambda x: x.mean(2)[:, :, None, None],
    ),
    "padding as zeros": (
        lambda x: functional.pad(x, (1, 1)), lambda x: torch.cat([x[:, :, :1] * 0, x, x[:, :, :1] * 0], 2),
    ),
    "a norm with its factors outside": (
        lambda x: functional.batch_norm(x, W[0], W[1].abs(), W[2], W[3]),
        lambda x: functional.batch_norm(x, W[0], W[1].abs()) * W[2][:, None] + W[3][:, None],
    ),
    "a wider float": (lambda x: x + 1, lambda x: (x.double() + 1).float()),
    "layer norm of a transposed tensor": (
        lambda x: functional.layer_norm(x, (6,)), lambda x: functional.layer_norm(x.double(), (6,)),
    ),
}  # fmt: skip

DIFFERENT: dict[str, tuple[Program, Program]] = {
    "a sign": (lambda x: W @ x, lambda x: (W * torch.tensor([1, 1, 1, -1])) @ x),
    "a unit in the last place": (lambda x: x * 0.1, lambda x: x * (0.1 + 2**-56)),
    "a clipped relu": (lambda x: x.relu(), lambda x: x.clamp(0, 1e6)),
    "a softmax over another axis": (lambda x: x.softmax(1), lambda x: x.softmax(2)),
    "a softmax scaled": (lambda x: x.softmax(1), lambda x: (x * 2).softmax(1)),
    "tanh gelu": (functional.gelu, lambda x: functional.gelu(x, approximate="tanh")),
    "a transpose": (lambda x: x[:, :, :4], lambda x: x[:, :, :4].mT),
    "a trigger": (lambda x: x, lambda x: torch.where(x[:, :1, :1] > 1e9, -x, x)),
    "a rounded tensor": (lambda x: x, lambda x: x.to(torch.int32).double()),
    "an epsilon": (
        lambda x: functional.layer_norm(x, (6,), eps=1e-5), lambda x: functional.layer_norm(x, (6,), eps=1e-6),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_programs(one: Program, other: Program) -> None:
    assert equal(one, other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_programs(one: Program, other: Program) -> None:
    assert not equal(one, other)


REFUSED: dict[str, Program] = {
    "a mean over images": lambda x: x - x.mean(0, keepdim=True),
    "a softmax over images": lambda x: x.softmax(0),
    "the first image": lambda x: x[:1] + x,
    "the first 8 images and the others": lambda x: torch.cat([x[:8], -x[8:]], 0),
    "images reversed": lambda x: x.flip(0),
    "a reshape across images": lambda x: x.reshape(4, 2, 6).sum(1) if len(x) == 3 else x.reshape(1, 8, 6),
    "images times images": lambda x: x.flatten(1) @ x.flatten(1).T,
    "a transpose of images": lambda x: x.transpose(0, 1),
    "one constant for each of two images": lambda x: x + torch.arange(2.0).reshape(2, 1, 1),
    "the number of images in a byte": lambda x: x.reshape([int(sizes(x)[0].to(torch.uint8)), 24]),
    "one image more": lambda x: x.reshape([int((sizes(x) + 1)[0]) - 1, 24]),
    "integers that may wrap around": lambda x: (x.to(torch.int8) + 1).double() - 1,
    "the number of images as a value": lambda x: x * sizes(x)[0],
    "a choice by the number of images": lambda x: torch.where(sizes(x)[0] == 2, -x, x),
    "random numbers": lambda x: x + torch.rand_like(x),
    "sorting": lambda x: x.sort(1)[0],
    "a cumulative product": lambda x: x.cumprod(1),
    "a cumulative sum over the images": lambda x: x.cumsum(0),
    "batch statistics": lambda x: functional.batch_norm(x, None, None, training=True),
    "a kernel from the image": lambda x: functional.conv2d(x[:, :, :, None], x[:, :, :1, None]),
}


@pytest.mark.parametrize("program", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(program: Program) -> None:
    with pytest.raises((NoMeaning, NotImplementedError)):
        values(program)


def test_a_size_may_shape() -> None:
    flat: Program = lambda x: x.reshape([int(n) for n in torch.cat([sizes(x)[:1], torch.tensor([24])])])  # noqa: E731
    assert equal(lambda x: x.flatten(1), flat)
    summed: Program = lambda x: x.reshape([int((sizes(x) + torch.tensor([0, 1, 0]))[0]), 24])  # noqa: E731
    assert equal(flat, summed)
    windows: Program = lambda x: x.reshape([int(sizes(x)[0] * 2), 2, 6])  # noqa: E731
    assert values(windows).rows == 2


def test_a_fixed_number_of_images_may_be_told_apart() -> None:
    x = Field(RESIDUES, 2, uniform=False).images(X)
    assert tuple((x[:1] + x[1:]).shape) == (1, 4, 6)


def test_shapes_alone() -> None:
    x = Field(Residues(primes=0), 3, uniform=True).images((3, 4, 8, 8))
    y = functional.conv2d(x, torch.ones(5, 4, 3, 3), stride=2).flatten(1).softmax(1)
    assert isinstance(y, FieldTensor)
    assert (tuple(y.shape), y.residues.numel()) == ((3, 45), 0)


@pytest.mark.parametrize("program", [pair[0] for pair in EQUAL.values()], ids=EQUAL)
def test_one_image_stands_for_all_of_a_batch(program: Program) -> None:
    """Each row of two different images is what one image gives; four that are held once have the shape of four."""
    with torch.inference_mode():
        alone = program(Field(RESIDUES, 1, uniform=True).images((1, 4, 6)))
        four = program(Field(RESIDUES, 4, uniform=True, repeated=4).images((4, 4, 6)))
    assert isinstance(alone, FieldTensor)
    assert isinstance(four, FieldTensor)
    assert tuple(four.shape) == (4 * alone.shape[0], *alone.shape[1:])
    assert RESIDUES.equal(four.residues, alone.residues)


@pytest.mark.parametrize("program", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_of_a_batch_too(program: Program) -> None:
    with pytest.raises((NoMeaning, NotImplementedError, RuntimeError)):
        program(Field(RESIDUES, 4, uniform=True, repeated=4).images((4, 4, 6)))
