"""Whether a program fits the Neural Engine, operation by operation. An estimate: only a device can tell.

Apple's own rules are in the references of its coreai-models repository (neural_engine_rules.md): tensors of rank 5 at
most, of fp16, int8 or int16, of static shapes, with strides whose prime factors are 2 and 3; what breaks one runs on
the GPU or the CPU. A last axis of fewer than 64 bytes is padded to that, which wastes what it pads and breaks nothing.
The largest dimension and the largest kernel are what guides for Core ML agree on (hollance/neural-engine).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from runtimes.evaluator.program import Operation, Program, TensorType

LARGEST_RANK, LARGEST_DIMENSION, LARGEST_KERNEL = 5, 16384, 13
LEAST_LAST_AXIS = 64
"""Bytes."""

_COMPUTES = frozenset({"fp16", "int8", "int16"})
_BYTES = {"fp16": 2, "int8": 1, "int16": 2}


@dataclass(frozen=True, slots=True)
class Readiness:
    """`share`: of the multiply-accumulates, in operations that satisfy every rule. `violations`: what doesn't.

    `padded`: of the same, in operations that give tensors whose last axis is padded.
    """

    share: float
    macs: int
    violations: tuple[str, ...]
    padded: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """Of a convolution: the sizes of its kernel, and its strides."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between the formats.

    `kinds`: operations that it is known to run. `edges`: those at the inputs and outputs, which do no work and may be
    of any type. `macs`: multiply-accumulates of an operation. `window`: of a convolution; None of another operation.
    """

    kinds: Collection[str]
    edges: Collection[str]
    macs: Callable[[Operation], int]
    window: Callable[[Operation], Window | None]


def rated(program: Program, form: Form) -> Readiness:
    """Apply the rules to a program."""
    types = program.types()
    total = fit = padded = 0
    violations: list[str] = []
    for operation in program.operations:
        macs = form.macs(operation)
        broken = list(_violations(operation, form, types, computes=macs > 0))
        total += macs
        fit += 0 if broken else macs
        padded += macs if _is_padded(types.get(operation.name)) else 0
        violations += [f"{operation.kind} '{operation.name}': {rule}" for rule in broken]
    return Readiness(fit / total if total else 0.0, total, tuple(violations), padded / total if total else 0.0)


def _is_padded(given: TensorType | None) -> bool:
    return given is not None and bool(given.shape) and given.shape[-1] * _BYTES.get(given.dtype, 4) < LEAST_LAST_AXIS


def _violations(operation: Operation, form: Form, types: Mapping[str, TensorType], *, computes: bool) -> Iterator[str]:
    if operation.kind not in form.kinds and operation.kind not in form.edges:
        yield "no kind that it is known to run"
    tensors = [types[name] for name in (*operation.names(), *dict(operation.outputs)) if name in types]
    for tensor in dict.fromkeys(tensors):
        if len(tensor.shape) > LARGEST_RANK:
            yield f"rank {len(tensor.shape)} of {tensor}, at most {LARGEST_RANK}"
        if computes and tensor.dtype not in _COMPUTES:
            yield f"{tensor.dtype}, where it computes in fp16"
        if max(tensor.shape, default=0) > LARGEST_DIMENSION:
            yield f"a dimension of {max(tensor.shape)}, at most {LARGEST_DIMENSION}"
    if (window := form.window(operation)) is not None:
        if max(window.kernel) > LARGEST_KERNEL:
            yield f"a kernel of {max(window.kernel)}, at most {LARGEST_KERNEL}"
        if odd := [stride for stride in window.strides if not _of_two_and_three(stride)]:
            yield f"a stride of {odd[0]}, where its prime factors must be 2 and 3"


def _of_two_and_three(number: int) -> bool:
    for factor in (2, 3):
        while number % factor == 0:
            number //= factor
    return number == 1


def work_of(shape: tuple[int, ...], weight: tuple[int, ...]) -> int:
    """Multiply-accumulates of a convolution or a linear layer: of what it gives, by what each value is summed over."""
    return prod(shape) * prod(weight[1:])
