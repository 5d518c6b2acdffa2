"""Whether a Core ML package fits the Neural Engine. A heuristic: Apple publishes no list of supported operations.

The rules are those on which published guides and reports agree (Apple's "Deploying Transformers on the Apple Neural
Engine"; hollance/neural-engine). MLComputePlan gives the actual answer on a device; the on-device test kit records it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import cast

import numpy as np

from runtimes.artifact import Artifact
from runtimes.coreml.mlpackage import load_program
from runtimes.coreml.reader import EDGES, KINDS
from runtimes.evaluator.program import Operation, Program, TensorType

_LARGEST_RANK, _LARGEST_DIMENSION, _LARGEST_KERNEL = 4, 16384, 13
_SUPPORTED = KINDS - EDGES | {
    "clip",
    "expand_dims",
    "layer_norm",
    "relu6",
    "sigmoid_hard",
    "silu",
    "squeeze",
    "sub",
    "upsample_bilinear",
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """`share`: of the multiply-accumulates, in operations that satisfy every rule. `violations`: what doesn't."""

    share: float
    macs: int
    violations: tuple[str, ...]


def readiness(artifact: Artifact) -> Readiness:
    """Apply the rules to a saved package.

    Raises:
        BrokenArtifact: the package cannot be read.
    """
    program = load_program(artifact.path)
    types = program.types()
    total = fit = 0
    violations: list[str] = []
    for operation in program.operations:
        macs = _macs(operation, program, types)
        broken = list(_violations(operation, program, types, computes=macs > 0))
        total += macs
        fit += 0 if broken else macs
        violations += [f"{operation.kind} '{operation.name}': {rule}" for rule in broken]
    return Readiness(fit / total if total else 0.0, total, tuple(violations))


def _macs(operation: Operation, program: Program, types: dict[str, TensorType]) -> int:
    """Multiply-accumulates: what convolutions, linear layers and matrix products do."""
    shape = types[operation.name].shape if operation.name in types else ()
    if operation.kind in ("conv", "linear"):
        return prod(shape) * prod(_shape(cast(str, operation.inputs["weight"]), program, types)[1:])
    if operation.kind == "matmul":
        x = _shape(cast(str, operation.inputs["x"]), program, types)
        turned = operation.inputs.get("transpose_x")
        constant = program.constants.get(turned) if isinstance(turned, str) else None
        return prod(shape) * (x[-2] if constant is not None and constant.value else x[-1])
    return 0


def _shape(name: str, program: Program, types: dict[str, TensorType]) -> tuple[int, ...]:
    constant = program.constants.get(name)
    return types[name].shape if constant is None else np.shape(cast(np.ndarray, constant.value))


def _violations(
    operation: Operation, program: Program, types: dict[str, TensorType], *, computes: bool
) -> Iterator[str]:
    """The edges of a program (scaling of the image, casts, labels) do no work and may be in float32."""
    if operation.kind not in _SUPPORTED and operation.kind not in EDGES:
        yield "no kind that it is known to run"
    tensors = [types[name] for name in (*operation.names(), *dict(operation.outputs)) if name in types]
    for tensor in dict.fromkeys(tensors):
        if len(tensor.shape) > _LARGEST_RANK:
            yield f"rank {len(tensor.shape)} of {tensor}, at most {_LARGEST_RANK}"
        if computes and tensor.dtype != "fp16":
            yield f"{tensor.dtype}, where it computes in fp16"
        if max(tensor.shape, default=0) > _LARGEST_DIMENSION:
            yield f"a dimension of {max(tensor.shape)}, at most {_LARGEST_DIMENSION}"
    if operation.kind == "conv":
        kernel = _shape(cast(str, operation.inputs["weight"]), program, types)[2:]
        if max(kernel) > _LARGEST_KERNEL:
            yield f"a kernel of {max(kernel)}, at most {_LARGEST_KERNEL}"
