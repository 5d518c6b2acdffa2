"""Sizes that a program reads off its tensors: they may shape, and nothing else.

A value computed from the number of images makes a file right for one batch and wrong for another, which no run at some
sizes shows.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_ALLOWED = frozenset({
    "__getitem__", "__get__", "__len__", "__repr__", "cat", "clone", "contiguous", "detach", "dim", "expand", "flatten",
    "gather", "index_select", "int", "is_floating_point", "item", "long", "mul", "__mul__", "__rmul__", "multiply",
    "narrow", "numel", "numpy", "prod", "reshape", "select", "size", "split", "squeeze", "stack", "to", "tolist",
    "type", "unsqueeze", "view", "new_full", "any", "permute", "as_tensor", "concat", "unbind", "__int__", "__index__",
    "ndim", "shape", "tensor_split", "reshape_as", "view_as", "__iter__",
})  # fmt: skip
"""What moves integers, and products: a product of sizes that is right for two numbers of images is right for all."""


class Sizes(Tensor):
    """An int64 tensor of sizes; what is computed from it is one as well."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Refuses what is not allowed to sizes."""
        name = getattr(func, "__name__", str(func))
        if name not in _ALLOWED:
            from runtimes.field.tensor import NoMeaning

            raise NoMeaning(f"'{name}' computes with the number of images")
        return super().__torch_function__(func, types, args, dict(kwargs or {}))  # type: ignore[no-untyped-call]


def sizes(x: Tensor) -> Tensor:
    """The shape of `x`, as int64 (rank,): plain numbers in floating point, `Sizes` in exact arithmetic."""
    from runtimes.field.tensor import FieldTensor

    shape = torch.tensor(x.shape, dtype=torch.int64)
    return shape.as_subclass(Sizes) if isinstance(x, FieldTensor) and x.field.uniform and x.rows else shape
