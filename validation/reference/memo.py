"""Evaluations of PyTorch models that were made before, and need not be made again.

A key is a digest of all that an evaluation depends on: what is computed, the modules' classes, settings and tensors,
the images, PyTorch's own settings. Code is not in the key: the store that keeps the arrays must bind them to it. Where
a setting cannot be serialized, the model is evaluated.
"""

import functools
import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_STATE = ("_parameters", "_buffers", "_modules")
_NOTHING = pickle.dumps(OrderedDict())
_PLAIN = (bool, int, str, type(None))


class Memo(Protocol):
    """Where arrays are kept, by what they depend on."""

    def find(self, key: str) -> NDArray[np.float64] | None:
        """The array that was kept, or None."""

    def keep(self, key: str, values: NDArray[np.float64]) -> None:
        """Keep it."""

    def alone(self, key: str) -> AbstractContextManager[object]:
        """Inside the block no other process that has the same arrays is in its block for the key."""


_memo: ContextVar[Memo | None] = ContextVar("memo", default=None)


@contextmanager
def remembering(memo: Memo | None) -> Iterator[None]:
    """Inside the block, evaluations are looked for in `memo` first; None: they never are."""
    token = _memo.set(memo)
    try:
        yield
    finally:
        _memo.reset(token)


def remembered(
    what: str, model: nn.Module, tensors: tuple[Tensor, ...], compute: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """`compute()`, or what it gave when `model` and `tensors` were last the same."""
    memo = _memo.get()
    key = None if memo is None else fingerprint(what, model, tensors)
    if memo is None or key is None:
        return compute()
    if (known := memo.find(key)) is not None:
        return known
    with memo.alone(key):
        if (known := memo.find(key)) is None:  # nobody else has computed it meanwhile
            known = compute()
            memo.keep(key, known)
    return known


def fingerprint(what: str, model: nn.Module, tensors: tuple[Tensor, ...]) -> str | None:
    """SHA-256 over everything that matters; None where it has no bytes, such as a setting that is a lambda."""
    if torch.is_autocast_enabled("cpu") or _global_hooks():
        return None
    total = hashlib.sha256(f"{what}\0{_arithmetic()}\n".encode())
    try:
        for name, module in model.named_modules(remove_duplicate=False):
            total.update(f"{name}\0{type(module).__module__}.{type(module).__qualname__}\n".encode())
            for setting, value in sorted(vars(module).items()):
                if setting not in _STATE:
                    total.update(f"{setting}\0".encode() + _bytes(value))
        for name, tensor in (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
            *(("", tensor) for tensor in tensors),
        ):
            values = np.ascontiguousarray(tensor.detach().numpy())
            total.update(f"{name}\0{values.dtype}\0{values.shape}\n".encode())
            total.update(values.reshape(-1).data)  # of one dimension, whose bytes are read where they lie
    except (TypeError, AttributeError, pickle.PicklingError):
        return None
    return total.hexdigest()


def _bytes(value: Any) -> bytes:
    """A setting in full; sets sorted, because their order changes from process to process."""
    kind = type(value)
    if kind is OrderedDict and not value:  # hooks, of which every module has a dozen kinds and no model of ours any
        return _NOTHING
    if kind in _PLAIN:
        return _of_plain(kind.__name__, value)
    return pickle.dumps(sorted(value) if isinstance(value, set | frozenset) else value)


@functools.cache
def _of_plain(_: str, value: bool | int | str | None) -> bytes:
    """By its type too: True is 1."""
    return pickle.dumps(value)


def _arithmetic() -> str:
    """PyTorch's own settings that change what it computes."""
    settings = (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.mkldnn.enabled,
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
    )
    return repr(settings)


def _global_hooks() -> bool:
    """Hooks that run in every module."""
    state = vars(torch.nn.modules.module)
    return any(value for name, value in state.items() if name.startswith("_global") and "hooks" in name)
