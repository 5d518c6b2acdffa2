"""What the inputs and outputs of ONNX operators are called, where onnx's own schemas don't say it as needed here."""

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "input": "x",
    "data": "x",
    "min": "least",
    "max": "greatest",
    "input_mean": "mean",
    "input_var": "var",
}
"""Names that Python has taken, and names that changed from one opset to the next. Others are used in lower case."""

VARIANTS: Mapping[str, int] = {"Softmax": 13, "LogSoftmax": 13}
"""Operators that meant something else before this opset: those are called after their version, `Softmax-11`."""

LATER: Mapping[str, int] = {"LayerNormalization": 17}
"""Operators that ONNX Runtime writes into files of an older opset than the one that introduced them."""

SEVERAL: Mapping[str, int] = {
    "Split": 0,
    "DynamicQuantizeLinear": 3,
    "com.microsoft.SkipLayerNormalization": 4,
}
"""Operators of which all outputs are computed, and how many; 0 where the node decides. Of others the first is."""

FIXED_OUTPUTS = frozenset({"BatchNormalization"})
"""Operators that compute something else when more than their first output is asked for."""

_BINARY = ("a", "b")
_QUANTIZED = ("x", "x_scale", "x_zero_point", "y_scale", "y_zero_point")
_QUANTIZED_BINARY = ("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "c_scale", "c_zero_point")

CONTRIBUTED: Mapping[str, tuple[str, ...]] = {
    "SimplifiedLayerNormalization": ("x", "scale"),
    "com.microsoft.BiasGelu": _BINARY,
    "com.microsoft.DequantizeLinear": ("x", "x_scale", "x_zero_point"),
    "com.microsoft.FastGelu": ("x", "bias"),
    "com.microsoft.FusedConv": ("x", "w", "b", "z"),
    "com.microsoft.FusedGemm": ("a", "b", "c"),
    "com.microsoft.FusedMatMul": _BINARY,
    "com.microsoft.Gelu": ("x",),
    "com.microsoft.MatMulIntegerToFloat": (*_BINARY, "a_scale", "b_scale", "a_zero_point", "b_zero_point", "bias"),
    "com.microsoft.QGemm": ("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "c", *_QUANTIZED[3:]),
    "com.microsoft.QLinearAdd": _QUANTIZED_BINARY,
    "com.microsoft.QLinearAveragePool": _QUANTIZED,
    "com.microsoft.QLinearConcat": ("y_scale", "y_zero_point", "*values"),
    "com.microsoft.QLinearConv": (*_QUANTIZED[:3], "w", "w_scale", "w_zero_point", *_QUANTIZED[3:], "b"),
    "com.microsoft.QLinearGlobalAveragePool": _QUANTIZED,
    "com.microsoft.QLinearLeakyRelu": _QUANTIZED,
    "com.microsoft.QLinearMul": _QUANTIZED_BINARY,
    "com.microsoft.QLinearSigmoid": _QUANTIZED,
    "com.microsoft.QLinearSoftmax": _QUANTIZED,
    "com.microsoft.QuantizeLinear": ("x", "y_scale", "y_zero_point"),
    "com.microsoft.QuickGelu": ("x",),
    "com.microsoft.SkipLayerNormalization": ("x", "skip", "gamma", "beta", "bias"),
}
"""The inputs of ONNX Runtime's own operators, in order; `*` before what takes all that follow."""
