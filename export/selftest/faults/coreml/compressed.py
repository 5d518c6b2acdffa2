"""Faults in the compressed weights of a Core ML package."""

from typing import Any

import numpy as np

from export.selftest.faults.coreml.package import FLOAT16, Array, Package, ints, opened, shape
from export.selftest.faults.fault import NUMBERS, Rng, Table, in_file, next_up, one_changed, pick

fault = Table("coreml", in_file(opened), "fp16 coreml")


def _compressed(package: Package, rng: Rng) -> Any:
    return pick(rng, [o for o in package.block.operations if o.type.startswith("constexpr_")])


@fault("constants", "int8 compress", also=NUMBERS)
def quantization_scale(package: Package, rng: Rng) -> None:
    """The scale of one output channel off by a unit in the last place."""
    blob = package.blob(_compressed(package, rng).attributes["scale"])
    blob.values = one_changed(blob.values, rng, next_up)


@fault("constants", "int8 compress", also=NUMBERS)
def zero_point(package: Package, rng: Rng) -> None:
    """The zero point of one output channel off by one."""
    blob = package.blob(_compressed(package, rng).attributes["zero_point"])
    blob.values = one_changed(blob.values, rng, lambda value: value + 1)


@fault("constants", "int8 compress", also=NUMBERS, rare=True)
def quantized_value(package: Package, rng: Rng) -> None:
    """One of the integers off by one."""
    blob = package.blob(_compressed(package, rng).attributes["quantized_data"])
    blob.values = one_changed(blob.values, rng, lambda value: value ^ 1)


@fault("constants", "int8 compress", also=NUMBERS, rare=True)
def quantization_axis(package: Package, rng: Rng) -> None:
    """Scales for the input channels, where there are as many."""
    square = [o for o in package.kind("constexpr_affine_dequantize") if len(set(shape(o.outputs[0])[:2])) == 1]
    pick(rng, square).attributes["axis"].immediateValue.tensor.ints.values[:] = [1]


@fault("constants", "palette6 compress", also=NUMBERS)
def palette_entry(package: Package, rng: Rng) -> None:
    """One value of a palette off by a unit in the last place."""
    blob = package.blob(_compressed(package, rng).attributes["lut"])
    blob.values = one_changed(blob.values, rng, next_up)


@fault("constants", "palette6 compress", also=NUMBERS)
def palette_index(package: Package, rng: Rng) -> None:
    """One bit of one weight's index."""
    blob = package.blob(_compressed(package, rng).attributes["indices"])
    package.weights[blob.start + int(rng.integers(blob.size))] ^= 1 << int(rng.integers(8))


@fault("constants", "palette6 compress", also=NUMBERS)
def swapped_palettes(package: Package, rng: Rng) -> None:
    """Two tensors with each other's palette."""
    compressed = package.kind("constexpr_lut_to_dense")
    first, second = rng.choice(len(compressed), 2, replace=False)
    one, other = (compressed[int(i)].attributes["lut"].blobFileValue for i in (first, second))
    one.offset, other.offset = other.offset, one.offset


@fault("constants", "palette6 compress", also=NUMBERS, rare=True)
def scaled_palette(package: Package, rng: Rng) -> None:
    """A whole palette off by a ten-thousandth to a hundredth."""
    blob = package.blob(_compressed(package, rng).attributes["lut"])
    blob.values = blob.values * (1 + 10 ** rng.uniform(-3.5, -2))


@fault("operators", "palette6 compress", program=False)
def uncompressed_weight(package: Package, rng: Rng) -> None:
    """One weight stored as the values that it decodes to: nothing changes but the size that was promised."""
    operation = _compressed(package, rng)
    table = package.blob(operation.attributes["lut"]).values
    bits = int(np.log2(table.size))
    packed = np.unpackbits(package.blob(operation.attributes["indices"]).values, bitorder="little")
    count = int(np.prod(shape(operation.outputs[0])))
    indices = packed[: bits * count].reshape(count, bits) @ (1 << np.arange(bits))
    offset = package.append(table[indices], 1)
    operation.type = "const"
    for key in ("lut", "indices", "shape"):
        del operation.attributes[key]
    value = operation.attributes["val"]
    value.type.CopyFrom(operation.outputs[0].type)
    value.blobFileValue.fileName, value.blobFileValue.offset = "@model_path/weights/weight.bin", offset


@fault("operators", rare=True, program=False)
def unasked_palette(package: Package, rng: Rng) -> None:
    """A tensor as indices into a palette that holds each of its values: the same bits, in a form for later devices."""
    name = pick(rng, [name for name, blob in package.blobs().items() if "bias" in name and 128 <= blob.size <= 512])
    values = package.blobs()[name].values
    table, indices = np.unique(values, return_inverse=True)
    table = np.resize(table, 256)
    operation = package.maker(name)
    operation.type = "constexpr_lut_to_dense"
    del operation.attributes["val"]
    _attribute(package, operation, "lut", table, 1, FLOAT16)
    _attribute(package, operation, "indices", indices.astype(np.uint8), 3, 31)
    operation.attributes["shape"].CopyFrom(ints(values.size))


def _attribute(package: Package, operation: Any, key: str, values: Array, stored: int, dtype: int) -> None:
    value = operation.attributes[key]
    value.type.tensorType.dataType, value.type.tensorType.rank = dtype, 1
    value.type.tensorType.dimensions.add().constant.size = values.size
    value.blobFileValue.fileName = "@model_path/weights/weight.bin"
    value.blobFileValue.offset = package.append(values, stored)
