"""How functions take the sizes and axes that a file gives as an attribute or as a tensor."""

from collections.abc import Sequence

from torch import Tensor

from runtimes.evaluator.evaluator import BadOperand

Ints = Sequence[int] | Tensor


def ints(value: Ints) -> list[int]:
    """Of a tensor of sizes, or of an attribute."""
    return [int(item) for item in (value.reshape(-1).tolist() if isinstance(value, Tensor) else value)]


def one(value: Tensor) -> float:
    """The number that a constant tensor of one element holds."""
    if value.numel() != 1:
        raise BadOperand(f"{value.numel()} values in the place of one")
    return float(value.reshape(()))


def require(holds: bool, what: str) -> None:
    """Raise BadOperand: `what` is not supported."""
    if not holds:
        raise BadOperand(what)
