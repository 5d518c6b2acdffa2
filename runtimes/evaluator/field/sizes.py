"""Sizes that a program reads off its tensors: where they depend on the number of images they may shape, nothing else.

A value computed from the number of images makes a file right for one batch and wrong for another, which no run at some
sizes shows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from runtimes.evaluator.field.tensor import FieldTensor, Unlike

_MOVES = frozenset({
    "__getitem__", "__iter__", "cat", "clone", "contiguous", "expand", "flatten", "gather", "index_select", "int",
    "long", "narrow", "permute", "reshape", "select", "split", "squeeze", "stack", "tensor_split", "to", "unbind",
    "unsqueeze", "view",
})  # fmt: skip
_PRODUCTS = frozenset({"mul", "__mul__", "__rmul__", "multiply", "prod"})
"""A product that is right for two numbers of images is right for all."""

_SUMS = frozenset({"add", "sub"})
"""Of sizes that do not depend on the number of images, beside some that do: what padding adds."""

_WIDE = (torch.int32, torch.int64)
"""What sizes may be held in: in a narrower type they wrap around where there are many images."""

_DESCRIBES = frozenset({"__get__", "__len__", "__repr__", "dim", "is_floating_point", "numel", "size", "type"})
_TELLS = frozenset({"__index__", "__int__", "item", "tolist"})
"""What gives the numbers themselves away."""


class Sizes(Tensor):
    """An int64 tensor of sizes that depend on the number of images. `other`: the same for one image more.

    `told`: how often numbers were read.
    """

    other: Tensor
    told: ClassVar[int] = 0

    @classmethod
    def of(cls, now: Tensor, other: Tensor) -> Tensor:
        """Plain numbers where the number of images does not matter."""
        if torch.equal(now, other):
            return now
        sizes = now.as_subclass(cls)
        sizes.other = other
        return sizes

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Does it for both numbers of images, if it may be done to sizes."""
        name = getattr(func, "__name__", str(func))
        given = (args, dict(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            now_args, now_kwargs = tree_map_only(Sizes, lambda x: x.as_subclass(Tensor), given)
            now = func(*now_args, **now_kwargs)
            if name in _TELLS:
                Sizes.told += 1
            if name in _TELLS | _DESCRIBES:
                return now
            if isinstance(now, Tensor) and now.dtype not in _WIDE:
                raise Unlike(f"the number of images is made a {str(now.dtype).removeprefix('torch.')}")
            moved = name in _MOVES and not any(isinstance(x, Sizes) for x in tree_leaves((args[1:], kwargs)))
            if not moved and name not in _PRODUCTS | _SUMS:  # what is the same for one image more may differ for nine
                raise Unlike(f"'{name}' computes with the number of images")
            other_args, other_kwargs = tree_map_only(Sizes, lambda x: x.other, given)
            other = func(*other_args, **other_kwargs)
            if name in _SUMS and not all(_keeps(each, now, other) for each in args if isinstance(each, Sizes)):
                raise Unlike(f"'{name}' adds to the number of images")
            return _both(now, other)


def _keeps(given: "Sizes", now: Tensor, other: Tensor) -> bool:
    """Those that depend on the number of images are in the result what they were."""
    before, after = given.as_subclass(Tensor), given.other
    varies = before != after
    return before.shape == now.shape and bool(((before == now) & (after == other))[varies].all())


def _both(now: Any, other: Any) -> Any:
    if isinstance(now, tuple | list):
        return type(now)(_both(*each) for each in zip(now, other, strict=True))
    return Sizes.of(now, other) if isinstance(now, Tensor) else now


def sizes(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    """The dimensions of `x` from `start` to `end`, as int64: the only way from a tensor to its shape."""
    chosen = range(x.dim())[start:end]
    now = torch.tensor([x.shape[axis] for axis in chosen], dtype=torch.int64)
    if not isinstance(x, FieldTensor) or not x.rows:
        return now
    return Sizes.of(now, now + torch.tensor([x.rows if axis == 0 else 0 for axis in chosen], dtype=torch.int64))


def extents(x: Tensor, counts: Any, axes: Sequence[int]) -> Any:
    """`counts` of what is taken from `axes` of `x`: plain numbers if they take all images, however many there are.

    Sizes are products: one that is the number of images for two such numbers is it for every one.
    """
    if not isinstance(counts, Sizes) or not isinstance(x, FieldTensor) or not x.rows:
        return counts
    now, other = counts.as_subclass(Tensor).reshape(-1).tolist(), counts.other.reshape(-1).tolist()
    images = (x.shape[0], x.shape[0] + x.rows)
    takes_all = all(a == b or (axis == 0 and (a, b) == images) for a, b, axis in zip(now, other, axes, strict=True))
    return now if takes_all else counts


def computed(compute: Callable[..., Any], operands: Mapping[str, Any]) -> Any:
    """What an operator gives. One that reads how many images there are may only lay out an image's values anew.

    Raises:
        Unlike: it makes something else of that number: a constant, a slice, a repetition.
    """
    before = Sizes.told
    result = compute(**operands)
    if Sizes.told == before:
        return result
    given = [x for x in tree_leaves(dict(operands)) if isinstance(x, FieldTensor)]
    if not (isinstance(result, FieldTensor) and result.rows and [x.numel() for x in given] == [result.numel()]):
        raise Unlike("something else than a shape depends on the number of images")
    return result
