"""The operations that EfficientViT's Core AI assets consist of."""

KINDS = frozenset({
    "broadcasting_add", "broadcasting_batch_matmul", "broadcasting_mul", "broadcasting_sub", "cast", "concat", "conv2d",
    "pad", "reduce_mean", "relu", "reshape", "sigmoid", "slice", "softmax", "split", "transpose",
})  # fmt: skip
"""The operations that EfficientViT's assets consist of. Any other means that the converter took another path."""
