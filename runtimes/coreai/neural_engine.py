"""Whether a Core AI asset fits the Neural Engine, by the rules of runtimes/evaluator/neural_engine.py."""

from math import prod
from typing import cast

import numpy as np

from runtimes.artifact import Artifact
from runtimes.coreai.aimodel import load_program
from runtimes.coreai.kinds import KINDS
from runtimes.evaluator.neural_engine import Form, Readiness, Window, rated, work_of
from runtimes.evaluator.program import Operation

_EDGES = frozenset({"cast"})


def readiness(artifact: Artifact) -> Readiness:
    """Apply the rules to a saved asset.

    Raises:
        BrokenArtifact: the asset cannot be read.
    """
    program = load_program(artifact.path)
    types = program.types() | {name: each.type for name, each in program.constants.items()}

    def macs(operation: Operation) -> int:
        given = types[operation.name].shape
        if operation.kind == "conv2d":
            return work_of(given, types[cast(str, operation.inputs["weight"])].shape)
        if operation.kind in ("batch_matmul", "broadcasting_batch_matmul"):
            return prod(given) * types[cast(str, operation.inputs["x"])].shape[-1]
        return 0

    def window(operation: Operation) -> Window | None:
        if operation.kind != "conv2d":
            return None
        strides = program.constants.get(str(operation.inputs["stride"]))
        steps = () if strides is None else tuple(int(step) for step in np.atleast_1d(cast(np.ndarray, strides.value)))
        return Window(types[cast(str, operation.inputs["weight"])].shape[2:], steps)

    return rated(program, Form(KINDS, _EDGES, macs, window))
