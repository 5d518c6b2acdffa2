"""The constants that an artifact has to hold, by name, and their digests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from efficientvit.deploy.compression import addends, affine, quantizable, quantized
from efficientvit.images.preprocessing import Preprocessing
from runtimes.precision import Dtype, Precision
from validation.reference.emulation import largest_integer

Constant = tuple[str, NDArray[Any]]  # the name in the artifact, the value as stored

IMAGE_SCALE, IMAGE_BIAS = "image scale", "image bias"
"""The two constants of an image input."""


def deploy_constants(deploy: nn.Module, dtype: Dtype) -> list[tuple[str, NDArray[np.floating]]]:
    """Every tensor of the deploy form, by name, as an artifact stores it whose weights decode to `dtype`."""
    numpy_dtype = np.float16 if dtype is Dtype.FP16 else np.float32
    return [(name, tensor.detach().numpy().astype(numpy_dtype)) for name, tensor in deploy.state_dict().items()]


def quantized_constants(deploy: nn.Module, precision: Precision) -> list[tuple[str, NDArray[Any]]]:
    """Every tensor of the deploy form as a Q/DQ file stores it: weights as int8 and their scales, the rest in float32.

    Among activations with zero points the attention biases have one too. By the names that ONNX Runtime's quantizer
    gives them.
    """
    weights = set(quantizable(deploy, depthwise=precision.quantized_depthwise)) - precision.float_weights
    biases = set(addends(deploy) if precision.activations is Dtype.UINT8 else ())
    result: list[tuple[str, NDArray[Any]]] = []
    for name, value in deploy_constants(deploy, Dtype.FP32):
        if name in weights:
            integers, scale = quantized(value.astype(np.float32), largest_integer(precision.weights))
            result += [(f"{name}_quantized", integers), (f"{name}_scale", scale)]
        elif name in biases:
            stored, scale, zero = affine(value.astype(np.float32))
            result += [(f"{name}_quantized", stored), (f"{name}_scale", scale), (f"{name}_zero_point", zero)]
        else:
            result.append((name, value))
    return result


def image_constants(preprocessing: Preprocessing) -> list[tuple[str, NDArray[np.floating]]]:
    """Scale and bias of an image input: 1/255 and minus the mean, in float32 whatever the weights are in."""
    bias = -np.array(preprocessing.mean, np.float32)
    return [(IMAGE_SCALE, np.array([1 / 255], np.float32)), (IMAGE_BIAS, bias)]
