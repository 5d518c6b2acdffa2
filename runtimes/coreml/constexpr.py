"""Compressed constants of a MIL program, decoded: `constexpr_*` operations in their iOS 16 and iOS 18 forms.

Written from the operations' documentation (coremltools, mil/ops/defs/iOS16/constexpr_ops.py and iOS18/compression.py).
The two forms of one kind differ in their operands. Tensors narrower than a byte come unpacked, a byte a value;
iOS 16 packs its own indices and masks into bytes, from the lowest bit on.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact

Tensor = NDArray[Any]
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))


class _BadOperand(ValueError):
    """An operand has a value that makes no sense."""


def decode(kind: str, name: str, operands: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """What `kind` makes of its operands: one tensor, or the mask and the values of a sparse one.

    Raises:
        BrokenArtifact: the kind, an operand or a dtype is not supported, or an index leads out of its table.
    """
    form = next((form for form in _FORMS.get(kind, ()) if _takes(form, operands)), None)
    if form is None:
        raise BrokenArtifact(
            f"constant '{name}' is compressed in an unsupported way",
            expected="; ".join(sorted(_FORMS)),
            got=f"{kind} of {', '.join(sorted(operands))}",
        )
    try:
        result = form(**{key: np.asarray(v) if not isinstance(v, str) else v for key, v in operands.items()})
    except (_BadOperand, ValueError, IndexError, TypeError) as error:
        raise BrokenArtifact(f"constant '{name}' cannot be decoded", got=f"{kind}: {error}") from error
    return result if isinstance(result, tuple) else (result,)


def _affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    """iOS 16: scale · (data - zero_point), one scale for each index of `axis`, or one for all."""
    along = int(axis) % quantized_data.ndim

    def spread(value: Tensor) -> Tensor:
        shape = [1] * quantized_data.ndim
        if value.size > 1:
            shape[along] = quantized_data.shape[along]
        return value.reshape(shape).astype(np.float32)

    _require_float(scale)
    difference = quantized_data.astype(np.float32) - spread(zero_point)
    result: Tensor = (difference * spread(scale)).astype(scale.dtype)
    return result


def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """iOS 18: scale · (data - offset), one of each for every block; computed in the scale's type."""
    _require_float(scale)
    result = data.astype(scale.dtype)
    if offset is not None:
        result -= _spread(offset, data.shape).astype(scale.dtype)
    product: Tensor = _spread(scale, data.shape) * result
    return product


def _spread(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A value for every block -> one for every element."""
    if value.ndim != len(shape):
        raise _BadOperand(f"{value.ndim} axes of blocks over {len(shape)}")
    for axis, size in enumerate(shape):
        if size % value.shape[axis]:
            raise _BadOperand(f"{value.shape[axis]} blocks over {size}")
        value = np.repeat(value, size // value.shape[axis], axis)
    return value


def _packed_lut_to_dense(indices: Tensor, lut: Tensor, shape: Tensor) -> Tensor:
    """iOS 16: one table for the whole tensor, indices of log2(entries) bits packed into bytes."""
    bits = _bits(lut.size)
    size = tuple(int(n) for n in shape)
    count = int(np.prod(size, dtype=np.int64))
    if indices.size != -(-bits * count // 8):
        raise _BadOperand(f"{indices.size} bytes of {bits}-bit indices for {count} values")
    each = np.unpackbits(indices, bitorder="little")[: bits * count].reshape(count, bits)
    numbers = each.astype(np.int64) @ (1 << np.arange(bits))
    result: Tensor = lut.reshape(-1)[numbers].reshape(size)
    return result


def _lut_to_dense(indices: Tensor, lut: Tensor, vector_axis: Tensor | None = None) -> Tensor:
    """iOS 18: (..., entries, vector) tables, one for every block of indices; vectors lie along `vector_axis`."""
    entries, vector = lut.shape[-2:]
    _bits(entries)
    if lut.ndim != indices.ndim + 2:
        raise _BadOperand(f"tables of {lut.ndim} axes for indices of {indices.ndim}")
    if indices.size and int(indices.max()) >= entries:
        raise _BadOperand(f"index {int(indices.max())} in a table of {entries}")
    blocks = lut.shape[:-2]
    places = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    for axis, (size, count) in enumerate(zip(indices.shape, blocks, strict=True)):
        if size % count:
            raise _BadOperand(f"{count} tables over {size}")
        places[axis] = places[axis] // (size // count)
    values = lut[(*places, indices)]  # (..., vector)
    if vector_axis is None:
        if vector != 1:
            raise _BadOperand(f"vectors of {vector} without an axis")
        scalars: Tensor = values[..., 0]
        return scalars
    axis = int(vector_axis) % indices.ndim
    shape = list(indices.shape)
    shape[axis] *= vector
    result: Tensor = np.moveaxis(values, -1, axis + 1).reshape(shape)
    return result


def _packed_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor) -> Tensor:
    """iOS 16: the mask is a bit for every value, packed into bytes."""
    size = tuple(int(n) for n in shape)
    count = int(np.prod(size, dtype=np.int64))
    if mask.size != -(-count // 8):
        raise _BadOperand(f"a mask of {mask.size} bytes for {count} values")
    return _sparse_to_dense(nonzero_data, np.unpackbits(mask, bitorder="little")[:count].reshape(size))


def _sparse_to_dense(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    """Zero where the mask is."""
    if np.count_nonzero(mask) != nonzero_data.size:
        raise _BadOperand(f"{nonzero_data.size} values for a mask of {np.count_nonzero(mask)}")
    result = np.zeros(mask.shape, nonzero_data.dtype)
    result[mask != 0] = nonzero_data.reshape(-1)
    return result


def _lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """iOS 18: the mask and the values of a sparse tensor whose values are indices into tables."""
    dense = _lut_to_dense(_sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis))
    return mask, dense[mask != 0]


def _sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """iOS 18: the mask and the values of a sparse tensor whose values are quantized."""
    dense = _blockwise_shift_scale(_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def _cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """fp16 -> fp32."""
    if output_dtype != "fp32":
        raise _BadOperand(f"a cast to {output_dtype}")
    return source_val.astype(np.float32)


def _bits(entries: int) -> int:
    bits = entries.bit_length() - 1
    if entries != 1 << bits or bits not in range(1, 9):
        raise _BadOperand(f"a table of {entries} entries")
    return bits


def _require_float(scale: Tensor) -> None:
    if scale.dtype not in _FLOATS:
        raise _BadOperand(f"a scale in {scale.dtype}")


_FORMS: Mapping[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], ...]] = {
    "constexpr_affine_dequantize": (_affine_dequantize,),
    "constexpr_blockwise_shift_scale": (_blockwise_shift_scale,),
    "constexpr_lut_to_dense": (_packed_lut_to_dense, _lut_to_dense),
    "constexpr_sparse_to_dense": (_packed_sparse_to_dense, _sparse_to_dense),
    "constexpr_lut_to_sparse": (_lut_to_sparse,),
    "constexpr_sparse_blockwise_shift_scale": (_sparse_blockwise_shift_scale,),
    "constexpr_cast": (_cast,),
}
"""By kind, the form of iOS 16 before that of iOS 18 where there are two. A parameter with a default is optional."""


def _takes(form: Callable[..., Any], operands: Collection[str]) -> bool:
    parameters = inspect.signature(form).parameters
    required = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    return required <= set(operands) <= set(parameters)
