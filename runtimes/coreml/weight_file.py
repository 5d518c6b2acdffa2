"""`weight.bin` of a Core ML package: tensors behind metadata records, in the layout of coremltools' MILBlob storage.

A file header of 64 bytes (uint32 count of tensors, uint32 version 2), then for each tensor a metadata record of 64
bytes at a multiple of 64 (uint32 sentinel 0xDEADBEEF, uint32 dtype, uint64 bytes, uint64 offset of the data, uint64
bits of padding in the last byte) and its data at another. Source: coremltools,
mlmodel/src/MILBlob/Blob/StorageFormat.hpp.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.content import FIRST, described
from efficientvit.errors import BrokenArtifact

WHOLE = "copy the whole package again, or export it again: it is a folder, and all files in it belong to it"
_RECORD = struct.Struct("<IIQQQ")
_SENTINEL, _ALIGNMENT, _VERSION = 0xDEADBEEF, 64, 2
_STORED = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}
"""BlobDataType by number."""

_NUMPY = {"fp16": "<f2", "fp32": "<f4", "fp64": "<f8", "bool": "?"} | {
    f"{sign}int{bits}": f"<{'u' if sign else 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_SUB_BYTE = {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "int4": 4, "uint6": 6}


def unpack(data: bytes, dtype: str, count: int, what: str) -> NDArray[Any]:
    """`count` values of MIL dtype `dtype`, flat.

    What is narrower than a byte is packed from the lowest bit on, and comes as uint8 (int4 as int8).

    Raises:
        BrokenArtifact: the bytes are too few or too many, or the dtype is not supported.
    """
    bits = _SUB_BYTE.get(dtype) or (8 * np.dtype(_NUMPY[dtype]).itemsize if dtype in _NUMPY else 0)
    if not bits or len(data) != -(-count * bits // 8):
        raise BrokenArtifact(
            f"{what} cannot be read",
            expected=f"{count} values of {dtype}, {-(-count * bits // 8)} bytes" if bits else "a supported dtype",
            got=f"{len(data)} bytes" if bits else dtype,
        )
    if dtype in _NUMPY:
        return np.frombuffer(data, _NUMPY[dtype])
    each = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    values: NDArray[Any] = (each << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    return np.where(values < 8, values, values - np.uint8(16)).astype(np.int8) if dtype == "int4" else values


class WeightFile:
    """An opened `weight.bin`.

    Raises:
        BrokenArtifact: there is none, or it has another header.
    """

    def __init__(self, path: Path) -> None:
        self._label = path.name
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise BrokenArtifact(
                f"the weights '{path.name}' of the package cannot be read", got=str(error), next_step=WHOLE
            ) from error
        if len(self._data) < _ALIGNMENT or struct.unpack_from("<I", self._data, 4) != (_VERSION,):
            raise BrokenArtifact(
                f"{self._label} is not a weight file",
                expected=f"blob storage, version {_VERSION}",
                got=described(self._data[:FIRST]),
                next_step=WHOLE,
            )

    def read(self, offset: int, dtype: str, count: int, name: str) -> NDArray[Any]:
        """The tensor whose metadata record lies at `offset`: `count` values of MIL dtype `dtype`, flat.

        Raises:
            BrokenArtifact: no such record there, another dtype or size, or data beyond the file's end.
        """
        what = f"constant '{name}' in {self._label}"
        if offset % _ALIGNMENT or offset + _RECORD.size > len(self._data):
            raise BrokenArtifact(f"{what} cannot be read", expected="a record within the file", got=f"offset {offset}")
        sentinel, number, size, start, padding = _RECORD.unpack_from(self._data, offset)
        stored = _STORED.get(number, f"dtype number {number}")
        if sentinel != _SENTINEL or stored != dtype or start + size > len(self._data):
            raise BrokenArtifact(
                f"{what} cannot be read",
                expected=f"a record of {dtype} within {len(self._data)} bytes",
                got=f"sentinel {sentinel:#x}, {stored}, {size} bytes at {start}",
                next_step=WHOLE,
            )
        if dtype in _SUB_BYTE and 8 * size - padding != count * _SUB_BYTE[dtype]:
            raise BrokenArtifact(f"{what} cannot be read", got=f"{padding} bits of padding in {size} bytes")
        return unpack(self._data[start : start + size], dtype, count, what)
