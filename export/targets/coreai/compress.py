"""Stage `compress`: large weights of a Core AI asset as int8, or as indices into a palette.

Which tensors, and what is to be left of them, is decided in efficientvit/deploy/compression.py, as for Core ML. The
forms are Core AI's own: `blockwise_shift_scale` with a scale for each output channel, and `lut_to_dense` with one table
for each tensor, of rank 6 for a convolution.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.deploy.compression import Half, compressible, int8_parts
from efficientvit.model import EfficientViT
from export.targets.coreai.asset import ALIGNMENT, constants_of, named, write_metadata
from export.targets.coreml.compress import palette_table
from runtimes.artifact import Artifact, Interface
from runtimes.coreai.aimodel import CONSTANT, DIALECT, load_metadata, load_program
from runtimes.coreai.stored import SCALED, STORED, TABLE
from runtimes.host.machine import versions
from runtimes.precision import PALETTE_BITS, Dtype, Precision


def compress(source: Artifact, deploy: EfficientViT, out: Path, weights: Dtype, interface: Interface) -> Artifact:
    """Write `source`, an asset with fp16 weights, with its compressible weights in the form `weights`."""
    from coreai.authoring import AIModelAsset

    chosen = {name.replace(".", "_") for name in compressible(deploy)}
    held = load_program(source.path).constants
    program = AIModelAsset.load(source.path).program
    module = program._module._mlir_module
    kept: list[NDArray[Any]] = []
    with module.context:
        for operation in list(constants_of(module.body.operations)):
            name = named(operation)
            if name in chosen:
                kept += _compressed(operation, name, np.asarray(held[name].value), weights)
    written = out.with_name("written.aimodel")  # the source's file is read from while this is written
    program.save_asset(written)
    del kept
    shutil.rmtree(out, ignore_errors=True)
    written.rename(out)
    write_metadata(out, interface, str(load_metadata(source.path)["producer"]))
    precision = Precision(weights, source.precision.activations, source.precision.execution)
    return source.becomes(
        out, "compress", precision=precision, tools=versions("coreai-core", "coreai-torch"), interface=interface
    )


def _compressed(operation: Any, name: str, weight: Half, weights: Dtype) -> list[NDArray[Any]]:
    """Put what decodes to the weight in its place; the data that the program refers to from then on."""
    from coreai._compiler.ir import (
        DenseElementsAttr,
        DenseResourceElementsAttr,
        InsertionPoint,
        IntegerAttr,
        IntegerType,
        Operation,
        RankedTensorType,
    )

    result, half = operation.results[0], operation.results[0].type.element_type
    kept: list[NDArray[Any]] = []

    def constant(ending: str, data: NDArray[Any], element: Any, shape: tuple[int, ...]) -> Any:
        data = np.ascontiguousarray(data)
        kept.append(data)
        kind = RankedTensorType.get(list(shape), element)
        value = DenseResourceElementsAttr.get_from_buffer(data, f"{name}{ending}", kind, alignment=ALIGNMENT)
        return _made(CONSTANT, (), kind, {"value": value})

    def _made(kind: str, operands: Any, given: Any, attributes: Any = None) -> Any:
        place = InsertionPoint(operation)
        made = Operation.create(
            f"{DIALECT}.{kind}", results=[given], operands=list(operands), attributes=attributes, ip=place
        )
        return made.results[0]

    with operation.location:
        if weights is Dtype.INT8:
            integers, scale = int8_parts(weight)
            byte, shape = IntegerType.get_signed(8), scale.shape
            operands: tuple[Any, ...] = (
                constant(STORED, integers, byte, integers.shape),
                constant("_scale", scale, half, shape),
                constant("_zero", np.zeros(shape, np.int8), byte, shape),
                constant("_shift", np.zeros(shape, np.float16), half, shape),
            )
            made = _made(SCALED, operands, result.type)
        else:
            bits = PALETTE_BITS[weights]
            entries, indices = palette_table(weight, bits)
            entries = np.pad(entries, (0, 2**bits - len(entries)), mode="edge")
            index, axis = IntegerType.get_unsigned(bits), IntegerType.get_signed(16)
            scalar = RankedTensorType.get([], axis)
            table = (*[1] * weight.ndim, 2**bits, 1)
            operands = (
                constant(STORED, _packed(indices, bits), index, weight.shape),
                constant("_table", entries.astype(np.float16), half, table),
                _made(CONSTANT, (), scalar, {"value": DenseElementsAttr.get_splat(scalar, IntegerAttr.get(axis, 0))}),
            )
            made = _made(TABLE, operands, result.type)
    result.replace_all_uses_with(made)
    operation.erase()
    return kept


def _packed(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """From the lowest bit of each byte on."""
    each = np.unpackbits(indices.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(each.reshape(-1), bitorder="little")
