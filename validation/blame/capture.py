"""Every tensor of a PyTorch module while it runs, with the module that made it: artifacts' layers are held to these."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from runtimes.precision import Dtype
from runtimes.reader import Layer
from validation.reference.emulation import rounded


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """What one operator gave. `layer.name`: the path of the module that it ran in, `stage1.block1.ffn1.branch.expand`.

    `value`: float64, whatever it was computed in. `place`: which of the operator's results it is, and of how many.
    """

    layer: Layer
    value: Tensor
    place: tuple[int, int] = (0, 1)


@torch.no_grad()
def capture(model: nn.Module, images: Tensor, activations: Dtype = Dtype.FP32) -> list[Captured]:
    """Run `model` on (n, 3, H, W) images in their own dtype; the input itself comes first, as a layer without reads.

    With other `activations` than float32 every result is rounded to them, as `validation.reference.emulation` does.
    """
    recorder = _Recorder(activations)
    first = rounded(images, activations)
    recorder.see("input", "input", (), first)
    with _paths(model, recorder), recorder:
        model(first)
    return recorder.seen


class _Recorder(TorchDispatchMode):
    def __init__(self, dtype: Dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path: list[str] = []
        self.seen: list[Captured] = []
        self._dtype = dtype
        # Tensors are known by identity, so they are kept: the place of a freed one would be given to another.
        self._known: dict[int, tuple[str, Tensor]] = {}

    def see(self, path: str, kind: str, given: Any, result: Tensor, place: tuple[int, int] = (0, 1)) -> None:
        if not result.is_floating_point():
            return
        name = str(len(self.seen))
        reads = tuple(self._known[id(t)][0] for t in _tensors(given) if id(t) in self._known)
        self._known[id(result)] = (name, result)
        self.seen.append(Captured(Layer(path, kind, (name,), reads), result.double(), place))

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._dtype is not Dtype.FP32:
            result = _each(result, lambda t: rounded(t, self._dtype) if t.is_floating_point() else t)
        path = self.path[-1] if self.path else ""
        given = _tensors(args)
        if any(id(t) in self._known for t in given):  # results of constants alone are no layers
            results = _tensors(result)
            for index, tensor in enumerate(results):
                kind = str(func).removeprefix("aten.").split(".")[0]
                self.see(path, kind, given, tensor, (index, len(results)))
        return result


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(_each(item, change) for item in value) if isinstance(value, list | tuple) else value


@contextmanager
def _paths(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Let the recorder know which module it is in."""

    def entering(path: str) -> Callable[..., None]:
        return lambda *_: recorder.path.append(path)

    def leaving(*_: Any) -> None:
        recorder.path.pop()

    handles = []
    for path, module in model.named_modules():
        handles += [module.register_forward_pre_hook(entering(path)), module.register_forward_hook(leaving)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
