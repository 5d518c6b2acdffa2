"""Copies of modules: what `copy.deepcopy` gives, in less time."""

import copy
from collections import OrderedDict
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)
_IMMUTABLE = (bool, int, float, str, type(None))
_TABLES = (OrderedDict, dict, set)


def copied(module: M, memo: dict[int, Any] | None = None) -> M:
    """As `copy.deepcopy(module, memo)`.

    Every module has a dozen tables of hooks, mostly empty, and settings that nobody can change: `copy.deepcopy` spends
    most of its time on them.
    """
    memo = {} if memo is None else memo
    known: M | None = memo.get(id(module))
    if known is not None:
        return known
    kind = type(module)
    reduced = kind.__reduce_ex__, kind.__reduce__
    if hasattr(kind, "__deepcopy__") or reduced != (object.__reduce_ex__, object.__reduce__):  # it has its own way
        return copy.deepcopy(module, memo)
    result = memo[id(module)] = kind.__new__(kind)
    ours: Any = module
    theirs: Any = result
    theirs.__setstate__({name: _value(name, value, memo) for name, value in ours.__getstate__().items()})
    return result


def _value(name: str, value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _IMMUTABLE or (kind is tuple and all(type(each) in _IMMUTABLE for each in value)):
        return value
    if kind in _TABLES and not value:
        return kind()
    if name == "_modules" and kind is dict:
        return {each: None if child is None else copied(child, memo) for each, child in value.items()}
    return copy.deepcopy(value, memo)
