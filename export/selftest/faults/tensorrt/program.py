"""A network as TensorRT's importer read it, and copies of it with one change: programs are never changed in place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.selftest.faults.fault import Plant, Rng
from runtimes.evaluator.program import Constant, Operation, Program, TensorType
from runtimes.tensorrt.evaluated import network_of, read_as


@contextmanager
def misread(plant: Plant[Program], path: Path, rng: Rng) -> Iterator[None]:
    """Let every reader of the file see the network that `plant` returns."""
    program = plant(network_of(path), rng)
    assert isinstance(program, Program)
    with read_as(path, program):
        yield


def with_changed(program: Program, operation: Operation, **changes: Any) -> Program:
    """The program with one operation changed."""
    changed = replace(operation, **changes)
    return replace(program, operations=tuple(changed if o is operation else o for o in program.operations))


def retyped(program: Program, operation: Operation, dtype: str) -> Program:
    """The program with one tensor declared otherwise."""
    return with_changed(program, operation, outputs=((operation.name, replace(declared(operation), dtype=dtype)),))


def reading(program: Program, operation: Operation, **inputs: Any) -> Program:
    """The program with other inputs of one operation."""
    return with_changed(program, operation, inputs={**operation.inputs, **inputs})


def with_attribute(program: Program, operation: Operation, key: str, value: Any) -> Program:
    """The program with another value of a constant operand."""
    name = operation.inputs[key]
    assert isinstance(name, str)
    return replace(program, constants={**program.constants, name: Constant(value, program.constants[name].type)})


def attribute(program: Program, operation: Operation, key: str) -> Any:
    """The value of a constant operand."""
    name = operation.inputs[key]
    assert isinstance(name, str)
    return program.constants[name].value


def of_kind(program: Program, kind: str) -> list[Operation]:
    """Operations of one kind."""
    return [operation for operation in program.operations if operation.kind == kind]


def relus(program: Program) -> list[Operation]:
    """Activations that are ReLUs."""
    return [o for o in of_kind(program, "activation") if attribute(program, o, "function") == "RELU"]


def declared(operation: Operation) -> TensorType:
    """The type of what an operation gives."""
    found = operation.outputs[0][1]
    assert found is not None
    return found
