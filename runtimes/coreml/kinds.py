"""The operations that EfficientViT's Core ML packages consist of."""

_WORK = {"add", "concat", "conv", "linear", "matmul", "mul", "reduce_mean", "relu", "reshape", "sigmoid", "softmax"}

_WINDOWS = {"pad", "slice_by_index", "split", "transpose"}
"""Partitions a grid into windows; at image sizes whose grid they do not divide (128, say) it is padded and cropped."""

EDGES = frozenset({"cast", "classify"})
"""Operations at the inputs and outputs of a package, which compute nothing."""

KINDS = frozenset(_WORK | _WINDOWS | EDGES)
"""The operations that EfficientViT's packages consist of. Any other means that the converter took another path."""
