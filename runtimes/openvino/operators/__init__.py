"""What OpenVINO's operations compute, in torch. Source: the operation specifications of OpenVINO 2026.

A function's parameters are the operands, named by `signatures`, and the attributes; the evaluator refuses what has no
parameter here. Tensors come as torch tensors, floating-point ones in the arithmetic of the evaluation, attributes as
Python values. An operation that cannot be expressed exactly has no function: random numbers, control flow, state,
outputs whose size depends on values.
"""

from runtimes.evaluator.evaluator import Language
from runtimes.openvino.operators import arithmetic, normalization, shapes, windows

OPENVINO = Language(
    {**arithmetic.OPERATORS, **normalization.OPERATORS, **shapes.OPERATORS, **windows.OPERATORS}, "fiub"
)
"""Integers are tensors: quantized weights, and the arithmetic on shapes of a dynamic batch."""
