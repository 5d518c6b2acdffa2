"""Where the quantizers of an int8 artifact are meant to stand, by its precision alone, on the deploy form's operators.

A tensor is quantized for all its readers, by one quantizer:

    INT8         what a matrix product or a dense convolution reads;
    UINT8        what any operator reads, but for a ReLU that is the only one to read it;
    SYMMETRIC8   the same, but for what the sum before a softmax, or a softmax, is the only one to read, and for a
                 product that is only added to something.

What was quantized and then only moved is quantized. The layers that are left in float32, each with the operators behind
it up to the next, read what they read as it is.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from runtimes.evaluator.field.quantizers import applied
from runtimes.evaluator.field.tensor import FieldTensor, Quantizer
from runtimes.precision import Dtype, Precision
from validation.proof.values import Print, print_of

_PRODUCTS = {"conv2d": "Conv", "convolution": "Conv", "linear": "Gemm", "addmm": "Gemm",
             "matmul": "MatMul", "bmm": "MatMul", "mm": "MatMul"}  # fmt: skip
"""Operators that multiply, by what their nodes are called in an ONNX file."""

_MOVES = frozenset({
    "view", "unsafe_view", "reshape", "permute", "transpose", "t", "mT", "expand", "squeeze", "unsqueeze", "slice",
    "select", "index_select", "split", "split_with_sizes", "constant_pad_nd", "pad", "clone", "contiguous", "detach",
    "alias", "to_copy", "flatten", "unflatten", "chunk", "dropout", "lift_fresh",
})  # fmt: skip

_NODES_THAT_MOVE = frozenset({
    "view", "unsafe_view", "reshape", "permute", "transpose", "t", "mT", "flatten", "unflatten",
    "split", "split_with_sizes", "chunk",
})  # fmt: skip
"""Those of them that are a Reshape, a Transpose or a Split in an ONNX file."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of the deploy form: the tensors that it reads and gives, by number.

    `layer`: the name of the product that it is or follows; `where`: the path of its module.
    """

    kind: str
    reads: tuple[int, ...]
    gives: tuple[int, ...]
    dense: bool
    layer: str
    where: str


@dataclass(frozen=True, slots=True)
class Placement:
    """For each operator of the deploy form, in order, whether each tensor that it reads is quantized."""

    quantized: Sequence[tuple[bool, ...]]
    calls: Sequence[Call]


def placement(form: nn.Module, images: FieldTensor, precision: Precision) -> Placement:
    """Where an artifact of this precision quantizes. `images`: their shape is all that matters."""
    calls = _traced(form, images)
    which = _quantized_tensors(calls, precision.activations)
    layers = set(precision.float_layers)

    def in_floats(call: Call) -> bool:
        if layers and call.gives == call.reads:  # what is one tensor is rounded, or not, for each that reads it
            return True
        return call.layer in layers and not (precision.rounded_once and call.kind in _NODES_THAT_MOVE)

    return Placement([tuple(number in which and not in_floats(call) for number in call.reads) for call in calls], calls)


def _quantized_tensors(calls: Sequence[Call], activations: Dtype) -> Collection[int]:
    readers: dict[int, list[Call]] = {}
    makers: dict[int, Call] = {}
    for call in calls:
        for number in set(call.reads):
            readers.setdefault(number, []).append(call)
        makers |= dict.fromkeys(call.gives, call)
    if activations is Dtype.INT8:
        return {number for call in calls if call.dense for number in call.reads}

    def in_floats(call: Call) -> bool:
        """Scores are computed in floats."""
        before = call.kind == "add" and any(r.kind == "softmax" for n in call.gives for r in readers.get(n, []))
        return activations is Dtype.SYMMETRIC8 and (call.kind == "softmax" or before)

    def needless(number: int) -> bool:
        if len(readers[number]) > 1:
            return False
        (reader,) = readers[number]
        added = reader.kind == "add" and number in makers and makers[number].kind in _PRODUCTS
        return reader.kind == "relu" or (activations is Dtype.SYMMETRIC8 and added)

    return {number for call in calls if not in_floats(call) for number in call.reads if not needless(number)}


def _traced(form: nn.Module, images: FieldTensor) -> Sequence[Call]:
    trace = _Trace()
    hooks = [
        hook
        for path, module in form.named_modules()
        for hook in (
            module.register_forward_pre_hook(lambda *_, path=path: trace.path.append(path)),
            module.register_forward_hook(lambda *_: trace.path.pop() and None),
        )
    ]
    try:
        with torch.inference_mode(), trace:
            form(images)
    finally:
        for hook in hooks:
            hook.remove()
    return trace.calls


class _Trace(TorchDispatchMode):
    """Notes every operator on a tensor of the field."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path: list[str] = []
        self.calls: list[Call] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[FieldTensor] = []
        self._names: Counter[str] = Counter()
        self._layers: dict[int, tuple[int, str]] = {}
        """Of each tensor the layer that made it, the last in order first."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operator's own result."""
        result = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FieldTensor)]
        if read:
            given = [leaf for leaf in tree_leaves(result) if isinstance(leaf, FieldTensor)]
            self._note(_kind(func), read, given, args)
        return result

    def _note(self, kind: str, read: list[FieldTensor], given: list[FieldTensor], args: tuple[Any, ...]) -> None:
        where = self.path[-1] if self.path else ""
        reads = tuple(map(self._number, read))
        if any(each is value for each in given for value in read):
            kind = "alias"  # the mean of one value
        if kind in _PRODUCTS:
            name = f"{where}/{_PRODUCTS[kind]}"
            self._names[name] += 1
            layer = len(self.calls), name if self._names[name] == 1 else f"{name}_{self._names[name]}"
        else:
            layer = max((self._layers[n] for n in reads if n in self._layers), default=(-1, ""))
        dense = kind in _PRODUCTS and not (_PRODUCTS[kind] == "Conv" and args[0].shape[1] != args[1].shape[1])
        gives = tuple(map(self._number, given))
        self._layers |= dict.fromkeys(gives, layer)
        self.calls.append(Call(kind, reads, gives, dense, layer[1], where))

    def _number(self, value: FieldTensor) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._alive)
            self._alive.append(value)
        return self._numbers[id(value)]


def _kind(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::").removeprefix("_")


class QuantizedForm(nn.Module):
    """The deploy form with quantizers where they are meant to be, each as the file has it of the same values.

    Which they are is found in the first run, by the values; later ones, of other values, have the same.
    `lacking`: the operators that read what the file does not quantize, of the last run, and what they give.
    """

    def __init__(
        self, form: nn.Module, where: Placement, quantizer_of: Callable[[FieldTensor], Quantizer | None]
    ) -> None:
        super().__init__()
        self._form = form
        self.where = where
        self.quantizer_of = quantizer_of
        self.chosen: list[Quantizer | None] = []
        self.lacking: list[tuple[Call, Print]] = []

    def forward(self, images: FieldTensor) -> FieldTensor | tuple[FieldTensor, ...]:
        """What the form gives."""
        self.lacking.clear()
        with torch.inference_mode(), _Applying(self):  # or PyTorch takes products apart before the mode sees them
            results: FieldTensor | tuple[FieldTensor, ...] = self._form(images)
        return results


class _Applying(TorchDispatchMode):
    def __init__(self, rule: QuantizedForm) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule
        self._count = 0
        self._asked = 0
        self._moved_from: MutableMapping[Any, FieldTensor] = WeakIdKeyDictionary()
        self._found: MutableMapping[Any, Quantizer | None] = WeakIdKeyDictionary()
        self._applied: MutableMapping[Any, FieldTensor] = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operator's result on what it is to read."""
        leaves, spec = tree_flatten((args, kwargs or {}))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, FieldTensor)]
        if not places:
            return func(*args, **(kwargs or {}))
        call, quantized = self._rule.where.calls[self._count], self._rule.where.quantized[self._count]
        self._count += 1
        lacking = False
        for i, wanted in zip(places, quantized, strict=True):
            if wanted and (read := self._quantized(leaves[i])) is not None:
                leaves[i] = read
            elif wanted:
                lacking = True
        args, kwargs = tree_unflatten(leaves, spec)
        result = func(*args, **kwargs)
        if lacking:
            self._rule.lacking.append((call, print_of(tree_leaves(result)[0])))
        if call.kind in _MOVES:
            for leaf in tree_leaves(result):
                if isinstance(leaf, FieldTensor) and leaf is not leaves[places[0]]:
                    self._moved_from[leaf] = leaves[places[0]]
        return result

    def _quantized(self, value: FieldTensor) -> FieldTensor | None:
        """None if the file does not quantize it."""
        if self._asked == len(self._rule.chosen):
            self._rule.chosen.append(self._quantizer(value))
        quantizer = self._rule.chosen[self._asked]
        self._asked += 1
        if quantizer is None and value.codes is not None:
            return value
        if quantizer is None:
            return None
        if value not in self._applied:
            self._applied[value] = applied(quantizer, value)
        return self._applied[value]

    def _quantizer(self, value: FieldTensor) -> Quantizer | None:
        """Of a tensor that was only moved, else the one of what it was moved from."""
        if value not in self._found:
            found = self._rule.quantizer_of(value)
            source = self._moved_from.get(value)
            if found is None and source is not None:
                found = self._quantizer(source)
            self._found[value] = found
        return self._found[value]
