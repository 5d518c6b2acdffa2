"""How an asset stores constants: their types, their bytes, and what stands for compressed ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact
from runtimes.coreml.constexpr import decode
from runtimes.coreml.weight_file import unpack
from runtimes.evaluator.program import Constant, TensorType

DTYPES: Mapping[str, str] = {
    "i1": "bool",
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "f64": "fp64",
    **{f"si{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)},
    **{f"ui{bits}": f"uint{bits}" for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64)},
}
"""MLIR's element types and their names here, which are MIL's."""

SCALED, TABLE = "blockwise_shift_scale", "lut_to_dense"
"""What gives a compressed constant its values: integers and scales, or indices into tables."""


STORED = "_stored"
"""Ends the name of a compressed constant's integers, behind the model's name of the tensor."""


def unpacked(data: bytes, declared: TensorType, what: str) -> NDArray[Any]:
    """A constant's values; what is narrower than a byte comes a byte a value.

    Raises:
        BrokenArtifact: the type is not supported, or the bytes are too few or too many.
    """
    count = int(np.prod(declared.shape, dtype=np.int64))
    if declared.dtype == "bool":
        return (unpack(data, "uint8", count, what) & 1).astype(bool).reshape(declared.shape)
    return unpack(data, declared.dtype, count, what).reshape(declared.shape)


def decoded(kind: str, name: str, reads: Sequence[str], constants: Mapping[str, Constant]) -> NDArray[Any] | None:
    """The values of a compressed constant; None of any other operation.

    Raises:
        BrokenArtifact: its operands contradict each other.
    """
    if kind not in (SCALED, TABLE) or not all(each in constants for each in reads):
        return None
    values = [np.asarray(constants[each].value) for each in reads]
    if kind == SCALED:
        data, scale, offset, shift = values
        if shift.any():
            raise BrokenArtifact(f"constant '{name}' cannot be decoded", expected="no shift", got="a shift")
        (result,) = decode("constexpr_blockwise_shift_scale", name, {"data": data, "scale": scale, "offset": offset})
        return result
    indices, table, axis = values
    (result,) = decode("constexpr_lut_to_dense", name, {"indices": indices, "lut": table, "vector_axis": axis})
    return result
