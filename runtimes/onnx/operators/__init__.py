"""What ONNX operators compute, in torch.

Sources: the operators' specifications, which onnx carries (`onnx.defs.get_schema`), and ONNX Runtime's
ContribOperators.md for its own. A function's parameters are the operator's inputs and attributes in lower case, and the
evaluator refuses what has no parameter here. Tensors come as torch tensors, floating-point ones in the arithmetic of
the evaluation, attributes as Python values. An operator that cannot be expressed exactly has no function: random
numbers, control flow, outputs whose size depends on values.
"""

from runtimes.evaluator.evaluator import Language
from runtimes.onnx.operators import (
    arithmetic,
    contributed,
    contributed_quantized,
    normalization,
    quantized,
    resizing,
    shapes,
    windows,
)

ONNX = Language(
    {
        **arithmetic.OPERATORS,
        **normalization.OPERATORS,
        **quantized.OPERATORS,
        **resizing.OPERATORS,
        **shapes.OPERATORS,
        **windows.OPERATORS,
        **contributed.OPERATORS,
        **contributed_quantized.OPERATORS,
    },
    "fiub",
)
"""Integers are tensors: quantized weights, and the arithmetic on shapes of a dynamic batch."""
