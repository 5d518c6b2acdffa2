"""What the operands of OpenVINO's operations are called. Source: the operation specifications of OpenVINO 2026."""

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {"min": "least", "max": "greatest", "m_pythondiv": "floored"}
"""Attributes whose names Python has taken, or that say nothing. Others keep their names, `-` as `_`."""

FIRST_ONLY = frozenset({"MaxPool"})
"""Operations of which only the first output is computed; a file that reads another is refused."""

_UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AvgPool", "Ceiling", "Clamp", "Convert", "Cos",
    "Cosh", "DepthToSpace", "Elu", "Erf", "Exp", "Floor", "Gelu", "HSigmoid", "HSwish", "IsNaN", "Log",
    "LogicalNot", "LogSoftmax", "MaxPool", "Mish", "Negative", "Relu", "Round", "ShapeOf", "ShuffleChannels",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "SoftPlus", "SoftSign", "SpaceToDepth", "Sqrt", "Tan", "Tanh",
)  # fmt: skip
_BINARY = (
    "Add", "Divide", "Equal", "FloorMod", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr",
    "LogicalXor", "MatMul", "Maximum", "Minimum", "Mod", "Multiply", "NotEqual", "Power", "SquaredDifference",
    "Subtract",
)  # fmt: skip
_OVER_AXES = (
    "MVN", "NormalizeL2", "ReduceL1", "ReduceL2", "ReduceLogicalAnd", "ReduceLogicalOr", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Squeeze", "Unsqueeze",
)  # fmt: skip

OPERANDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_UNARY, ("x",)),
    **dict.fromkeys(_BINARY, ("a", "b")),
    **dict.fromkeys(_OVER_AXES, ("x", "axes")),
    "BatchNormInference": ("x", "gamma", "beta", "mean", "variance"),
    "BatchNormInference-opset1": ("gamma", "beta", "x", "mean", "variance"),
    "Broadcast": ("x", "shape", "axes_mapping"),
    "Concat": ("*values",),
    "ConvertLike": ("x", "like"),
    "Convolution": ("x", "filters"),
    "FakeQuantize": ("x", "input_low", "input_high", "output_low", "output_high"),
    "Gather": ("x", "indices", "axis"),
    "Gather-opset1": ("x", "places", "axis"),
    "Gather-opset7": ("x", "places", "axis"),
    "GroupConvolution": ("x", "filters"),
    "GroupNormalization": ("x", "scale", "bias"),
    "HardSigmoid": ("x", "alpha", "beta"),
    "Interpolate": ("x", "scales_or_sizes", "axes"),
    "Interpolate-opset4": ("x", "sizes", "scales", "axes"),
    "PRelu": ("x", "slope"),
    "Pad": ("x", "begin", "end", "value"),
    "Range": ("start", "stop", "step"),
    "Reshape": ("x", "shape"),
    "ScaledDotProductAttention": ("query", "key", "value", "mask", "scale"),
    "Select": ("condition", "a", "b"),
    "Selu": ("x", "alpha", "factor"),
    "Slice": ("x", "start", "stop", "step", "axes"),
    "Split": ("x", "axis"),
    "StridedSlice": ("x", "begin", "end", "stride"),
    "Swish": ("x", "beta"),
    "Tile": ("x", "repeats"),
    "TopK": ("x", "k"),
    "Transpose": ("x", "order"),
    "VariadicSplit": ("x", "axis", "lengths"),
}
"""By kind, or by kind and the version where that changed them, in order; `*` before what takes all that follow."""
