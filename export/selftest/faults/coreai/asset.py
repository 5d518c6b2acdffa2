"""A saved Core AI asset, opened to be spoiled: its program through Apple's library, its weights byte by byte."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.coreai.aimodel import CONSTANT, HASH, MAIN, METADATA, PROGRAM, load_program

Array = NDArray[Any]
_NAMED = re.compile(r"dense_resource<([^>]*)>")


def rehashed(path: Path) -> None:
    """As if the program had been written as it is now."""
    (path / HASH).write_bytes(hashlib.sha256((path / PROGRAM).read_bytes()).digest())


@contextmanager
def opened_weights(path: Path) -> Iterator[dict[str, Array]]:
    """The model's tensors that lie outside of the program, by name; what is changed is written back in its place."""
    held = {name: np.asarray(each.value) for name, each in load_program(path).constants.items()}
    before = {name: value for name, value in held.items() if value.dtype.kind == "f" and not name.startswith(CONSTANT)}
    after = {name: value.copy() for name, value in before.items()}
    yield after
    data = bytearray((path / PROGRAM).read_bytes())
    places = {name: data.find(value.tobytes()) for name, value in before.items()}
    for name, value in after.items():
        changed = value.astype(before[name].dtype).tobytes()
        data[places[name] : places[name] + len(changed)] = changed
    (path / PROGRAM).write_bytes(data)
    rehashed(path)


@contextmanager
def opened_metadata(path: Path) -> Iterator[dict[str, Any]]:
    """`metadata.json`, written back on exit."""
    metadata: dict[str, Any] = json.loads((path / METADATA).read_text(encoding="utf-8"))
    yield metadata
    (path / METADATA).write_text(json.dumps(metadata, indent=2, sort_keys=True, ensure_ascii=False), encoding="utf-8")


@contextmanager
def opened(path: Path) -> Iterator["Graph"]:
    """The program of the asset at `path`, written back on exit."""
    graph = Graph(path)
    with graph.context, graph.place:
        yield graph
    graph.save()


class Graph:
    """The main function. An operation is Apple's `Operation`, a value one of its results or operands."""

    def __init__(self, path: Path) -> None:
        from coreai._compiler.ir import Location
        from coreai.authoring import AIModelAsset

        self._path = path
        self._program = AIModelAsset.load(path).program
        module = self._program._module._mlir_module
        self.context = module.context
        (self.function,) = [
            each.operation for each in module.body.operations if each.operation.attributes["sym_name"].value == MAIN
        ]
        (self.block,) = self.function.regions[0].blocks
        with self.context:
            self.place = Location.unknown()

    def save(self) -> None:
        """Write the program and its hash: into a new file, as the weights are still read from the old one."""
        written = self._path.with_suffix(".new")
        self._program._save_bytecode(written)
        written.replace(self._path / PROGRAM)
        rehashed(self._path)

    @property
    def operations(self) -> list[Any]:
        """In order."""
        return [each.operation for each in self.block.operations]

    def kind(self, *kinds: str) -> list[Any]:
        """Operations of these kinds, by the dialect's names without what stands before the last dot."""
        return [each for each in self.operations if kind_of(each) in kinds]

    @property
    def output(self) -> Any:
        """The operation that returns."""
        return self.operations[-1]

    def make(self, kind: str, operands: Any, results: Any, before: Any, **attributes: Any) -> Any:
        """A new operation before another; `results`: the types of what it gives."""
        from coreai._compiler.ir import InsertionPoint, Operation

        return Operation.create(
            f"coreai.{kind}",
            results=list(results),
            operands=list(operands),
            attributes=attributes or None,
            ip=InsertionPoint(before),
        )

    def constant(self, values: Array, kind: Any) -> Any:
        """A new constant at the start of the function, of the type that another value has."""
        from coreai._compiler.ir import DenseElementsAttr

        value = DenseElementsAttr.get(np.ascontiguousarray(values), type=kind)
        return self.make(CONSTANT, (), [kind], self.operations[0], value=value).results[0]

    def giving(self, operation: Any, place: int, values: Any) -> None:
        """Other values of a constant operand, for this operation alone."""
        old = operation.operands[place]
        operation.operands[place] = self.constant(np.asarray(values, values_of(old).dtype), old.type)

    def drop(self, operation: Any, instead: Any) -> None:
        """Take an operation out; its readers read this value in its place."""
        operation.results[0].replace_all_uses_with(instead)
        operation.erase()

    def replace(self, operation: Any, kind: str, operands: Any, **attributes: Any) -> Any:
        """Another operation in the place of one, of the same type."""
        made = self.make(kind, operands, [operation.results[0].type], operation, **attributes)
        self.drop(operation, made.results[0])
        return made


def kind_of(operation: Any) -> str:
    """Without what stands before the last dot."""
    return str(operation.name).rpartition(".")[2]


def maker(value: Any) -> Any:
    """The operation that makes a value."""
    return value.owner


def shape(value: Any) -> tuple[int, ...]:
    """As declared."""
    return tuple(value.type.shape)


def readers(value: Any) -> list[Any]:
    """The operations that read a value."""
    return [use.owner for use in value.uses]


def values_of(value: Any) -> Array:
    """Of a constant that stands in the program itself."""
    return np.array(maker(value).attributes["value"])


def name_of(value: Any) -> str:
    """Of a constant that lies outside of the program: the model's name of the tensor; else none."""
    operation = maker(value)
    if not hasattr(operation, "name") or kind_of(operation) != CONSTANT:
        return ""
    match = _NAMED.match(str(operation.attributes["value"])[:300])
    return match[1] if match else ""
