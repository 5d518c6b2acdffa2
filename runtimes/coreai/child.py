"""The process that opens a Core AI asset, for runtimes/coreai/process.py: a broken asset aborts whoever reads it.

    python child.py read ASSET    the program, as a header and the constants' bytes
    python child.py run ASSET     answers each input that comes on standard input

A message is a line of JSON, and after it the bytes of the arrays that the line lists. Nothing of this project is
imported: Apple's library and NumPy are all that it takes to start.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAIN = "main"
_NAMED = re.compile(r"dense_resource<([^>]*)>")
_ARRAY = re.compile(r"tensor<(?P<shape>(?:[\d?]+x)*)(?P<dtype>\w+)(?:, .*)?>")
Send = Callable[..., None]


def send_to(file: BinaryIO) -> Send:
    """What writes a message to `file`."""

    def send(header: dict[str, Any], arrays: Sequence[Any] = ()) -> None:
        file.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            file.write(np.ascontiguousarray(array).tobytes())
        file.flush()

    return send


def described(kind: Any) -> dict[str, Any]:
    """The element type and the shape of a tensor, by MLIR's names; a dimension of None may have any size."""
    match = _ARRAY.fullmatch(str(kind))
    if match is None:
        return {"dtype": str(kind), "shape": []}
    sizes = match["shape"].split("x")[:-1]
    return {"dtype": match["dtype"], "shape": [None if size == "?" else int(size) for size in sizes]}


def named(attributes: Any, values: Sequence[Any], fallback: str) -> list[dict[str, Any]]:
    """Inputs or outputs of a function: their names, in order, and their types."""
    found = []
    for index, kind in enumerate(values):
        name = fallback + str(index)
        if attributes is not None and "coreai.name" in attributes[index]:
            name = attributes[index]["coreai.name"].value
        found.append({"name": name, **described(kind)})
    return found


class Listing:
    """The functions of a module, and their constants' bytes in the order in which they are listed."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []

    def function(self, graph: Any) -> dict[str, Any]:
        """One function: values are numbers, inputs first."""
        operation = graph.operation
        (block,) = operation.regions[0].blocks
        numbers: dict[Any, int] = {value: index for index, value in enumerate(block.arguments)}
        attributes = {each.name: each.attr for each in operation.attributes}
        kinds = [value.type for value in block.arguments]
        listed: dict[str, Any] = {
            "name": attributes["sym_name"].value,
            "inputs": named(attributes.get("arg_attrs"), kinds, "arg"),
            "operations": [self.operation(each.operation, numbers) for each in block.operations],
        }
        result = listed["operations"].pop()
        assert result["kind"] == "coreai.output", "what a function ends with"
        returned = [value.type for value in list(block.operations)[-1].operation.operands]
        outputs = named(attributes.get("res_attrs"), returned, "result")
        for output, value in zip(outputs, result["operands"], strict=True):
            output["value"] = value
        return listed | {"outputs": outputs}

    def operation(self, operation: Any, numbers: dict[Any, int]) -> dict[str, Any]:
        """One operation; of a constant, how many bytes it has among the arrays, and its name there."""
        operands = [numbers[value] for value in operation.operands]
        results = []
        for value in operation.results:
            numbers[value] = len(numbers)
            results.append({"value": numbers[value], **described(value.type)})
        listed = {"kind": operation.name, "operands": operands, "results": results, "id": _id(operation)}
        if operation.name == "coreai.constant":
            data, name = constant(operation)
            self.arrays.append(data)
            return listed | {"bytes": len(data), "name": name}
        if operation.regions and list(operation.regions):
            return listed | {"attributes": {"region": "yes"}}
        return listed | {"attributes": {each.name: str(each.attr) for each in operation.attributes}}


def constant(operation: Any) -> tuple[Any, str]:
    """The bytes of a constant as stored, and the name of its resource; none if it stands in the program itself."""
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array

    kind = operation.results[0].type
    # Apple's library writes a truth value into a byte of its own, past the end of what is not made for that.
    bits = 8 if str(kind.element_type) == "i1" else kind.element_type.width
    data = np.zeros(-(-int(np.prod(kind.shape, dtype=np.int64)) * bits // 8), np.uint8)
    copy_constant_value_to_array(constant_op=operation, destination=data)
    match = _NAMED.match(str(operation.attributes["value"])[:300]) if _is_resource(operation) else None
    return data, match[1] if match else ""


def _id(operation: Any) -> int | None:
    """The number that the converter gave it; what follows from another operation's has that one's."""
    from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir import get_operation_id

    found = get_operation_id(operation.location)
    return None if found is None else int(found.value)


def _is_resource(operation: Any) -> bool:
    from coreai._compiler.ir import DenseElementsAttr

    return not isinstance(operation.attributes["value"], DenseElementsAttr)


def read(path: Path, send: Send) -> None:
    """Send the functions of the asset's program."""
    from coreai.authoring import AIModelAsset

    module = AIModelAsset.load(path).program._module._mlir_module
    listing = Listing()
    functions = [listing.function(each) for each in module.body.operations]
    send({"functions": functions}, listing.arrays)


async def run(path: Path, send: Send, messages: BinaryIO) -> None:
    """Load the asset, send what its function takes and gives, then answer until the input ends."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray, SpecializationOptions

    # On a Mac, Core AI of the system would choose among its compute units. The device kit judges each of them.
    options = SpecializationOptions.cpu_only() if SpecializationOptions.is_supported() else None
    async with AIModelAsset.load(path).executable(options) as model:
        function = model.load_function(MAIN)
        description = function.desc
        ports = {
            name: {"dtype": str(kind.dtype), "shape": list(kind.shape)}
            for name in description.input_names
            for kind in [description.input_descriptor(name)]
        }
        asked = "none" if options is None else "cpuOnly"
        send({"inputs": ports, "outputs": list(description.output_names), "asked": asked})
        for name, array in _asked(messages):
            results = await function({name: NDArray(array)})
            arrays = {key: np.array(value.numpy()) for key, value in results.items()}
            outputs = [{"name": k, "dtype": v.dtype.name, "shape": list(v.shape)} for k, v in arrays.items()]
            send({"outputs": outputs}, list(arrays.values()))


def _asked(messages: BinaryIO) -> Iterator[tuple[str, Any]]:
    for line in iter(messages.readline, b""):
        header = json.loads(line)
        kind = np.dtype(header["dtype"])
        count = int(np.prod(header["shape"], dtype=np.int64)) * kind.itemsize
        yield header["name"], np.frombuffer(messages.read(count), kind).reshape(header["shape"])


def main() -> None:
    """Apple's library prints as it pleases: the messages go where standard output was."""
    send = send_to(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    what, path = sys.argv[1], Path(sys.argv[2])
    try:
        if what == "read":
            read(path, send)
        else:
            asyncio.run(run(path, send, sys.stdin.buffer))
    except Exception as error:  # noqa: BLE001 - whatever Apple's library raises, the other process has to be told
        send({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
