"""The operands of each operation by name, as runtimes/coreai/operators.py calls its functions' parameters."""

import inspect
from collections.abc import Sequence

_VARIADIC = {"concat": "inputs"}
"""Operations whose last operands are one, and how that is called."""


def named_operands(kind: str, reads: Sequence[str]) -> dict[str, str | tuple[str, ...]]:
    """What an operation reads, in order, by name; by place where the operation is unknown, or takes fewer."""
    from runtimes.coreai.operators import OPERATORS

    compute = OPERATORS.get(kind)
    names = list(inspect.signature(compute).parameters) if compute is not None else []
    if kind in _VARIADIC:
        first = names.index(_VARIADIC[kind])
        return {**dict(zip(names[:first], reads[:first], strict=True)), _VARIADIC[kind]: tuple(reads[first:])}
    names += [f"operand {place}" for place in range(len(names), len(reads))]
    return dict(zip(names, reads, strict=False))
