"""Whether a Core ML package fits the Neural Engine, by the rules of runtimes/evaluator/neural_engine.py.

MLComputePlan gives the actual answer on a device; the on-device test kit records it.
"""

from math import prod
from typing import cast

import numpy as np

from runtimes.artifact import Artifact
from runtimes.coreml.kinds import EDGES, KINDS
from runtimes.coreml.mlpackage import load_program
from runtimes.evaluator.neural_engine import Form, Readiness, Window, rated, work_of
from runtimes.evaluator.program import Operation, Program

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


def readiness(artifact: Artifact) -> Readiness:
    """Apply the rules to a saved package.

    Raises:
        BrokenArtifact: the package cannot be read.
    """
    program = load_program(artifact.path)
    types = program.types()

    def shape(name: str) -> tuple[int, ...]:
        constant = program.constants.get(name)
        return types[name].shape if constant is None else np.shape(cast(np.ndarray, constant.value))

    def macs(operation: Operation) -> int:
        given = types[operation.name].shape if operation.name in types else ()
        if operation.kind in ("conv", "linear"):
            return work_of(given, shape(cast(str, operation.inputs["weight"])))
        if operation.kind == "matmul":
            x = shape(cast(str, operation.inputs["x"]))
            turned = _constant(program, operation, "transpose_x")
            return prod(given) * (x[-2] if turned else x[-1])
        return 0

    def window(operation: Operation) -> Window | None:
        if operation.kind != "conv":
            return None
        strides = _constant(program, operation, "strides")
        steps = tuple(int(step) for step in np.atleast_1d(cast(np.ndarray, strides))) if strides is not None else ()
        return Window(shape(cast(str, operation.inputs["weight"]))[2:], steps)

    return rated(program, Form(_SUPPORTED, EDGES, macs, window))


def _constant(program: Program, operation: Operation, key: str) -> object:
    name = operation.inputs.get(key)
    constant = program.constants.get(name) if isinstance(name, str) else None
    return None if constant is None else constant.value
