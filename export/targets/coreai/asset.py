"""A Core AI asset, written: named constants, what it says of itself, and the same bytes for the same content.

Apple's converter calls a constant by a number that is another in each process, and orders the metadata's keys by
another in each as well; it writes the second of the day into them. Here a constant is called as the model's tensor is,
and the metadata is written in order, without the day.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.digests import tensor_digest
from runtimes.artifact import Interface
from runtimes.coreai.aimodel import CONSTANT, DIALECT, METADATA, VERSION
from runtimes.coreai.reader import CUSTOM, FIELDS, LABELS

ALIGNMENT = 16
"""Bytes, of a constant's data, as Apple's converter has it."""

_NAMED = re.compile(r"dense_resource<([^>]*)>")

_FLOATS: Mapping[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}


def save(program: Any, asset: Path, interface: Interface, constants: Mapping[str, NDArray[Any]]) -> None:
    """Write a `coreai.authoring.AIProgram`; its constants get the names that `constants` has for their values."""
    kept = name_constants(program, constants)
    producer = program.save_asset(asset)
    del kept
    metadata = json.loads((producer.path / METADATA).read_text(encoding="utf-8"))
    write_metadata(asset, interface, str(metadata["producer"]))


def name_constants(program: Any, constants: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Store every tensor of floating-point numbers under a name that does not change: the model's, or by its place.

    Those of one value throughout have no name, and need none. Gives the data that the program refers to, to be kept as
    long as the program is.
    """
    from coreai._compiler import ir
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array

    known: dict[str, str] = {}
    for name, value in constants.items():
        known.setdefault(tensor_digest(value), name.replace(".", "_"))
    module = program._module._mlir_module
    kept: list[NDArray[Any]] = []
    taken: set[str] = set()
    with module.context:
        for operation in constants_of(module.body.operations):
            value = operation.attributes["value"]
            if isinstance(value, ir.DenseElementsAttr) and value.is_splat:
                continue
            dtype = _FLOATS.get(str(value.type.element_type))
            if dtype is None and isinstance(value, ir.DenseElementsAttr):
                continue  # sizes and axes, which stand in the program itself
            bits = value.type.element_type.width
            data = np.zeros(-(-int(np.prod(value.type.shape, dtype=np.int64)) * bits // 8), np.uint8)
            copy_constant_value_to_array(constant_op=operation, destination=data)
            own = "" if dtype is None else known.get(tensor_digest(data.view(dtype)), "")
            name = own or f"{CONSTANT}_{len(kept)}"
            assert name not in taken, "the compiler shares one copy of equal constants"
            taken.add(name)
            kept.append(data)
            operation.attributes["value"] = ir.DenseResourceElementsAttr.get_from_buffer(
                data, name, value.type, alignment=ALIGNMENT
            )
    return kept


def constants_of(operations: Any) -> Iterator[Any]:
    """Every constant, whichever function it is in."""
    for each in operations:
        operation = each.operation
        if operation.name == f"{DIALECT}.{CONSTANT}":
            yield operation
        for region in operation.regions:
            for block in region.blocks:
                yield from constants_of(block.operations)


def named(operation: Any) -> str:
    """Of a constant that lies outside of the program: the name of its data; else none."""
    match = _NAMED.match(str(operation.attributes["value"])[:300])
    return match[1] if match else ""


def write_metadata(asset: Path, interface: Interface, producer: str) -> None:
    """What the asset says of itself, in one order."""
    said = dict(interface.metadata)
    fields = {key: said.pop(key, "") for key in FIELDS}

    custom: dict[str, Any] = {**said, **({LABELS: list(interface.labels)} if interface.labels else {})}
    metadata = {**fields, "assetVersion": VERSION, "producer": producer, CUSTOM: custom}
    text = json.dumps(metadata, indent=2, sort_keys=True, ensure_ascii=False)
    (asset / METADATA).write_text(f"{text}\n", encoding="utf-8")
