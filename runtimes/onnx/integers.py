"""Which scale the integers of an ONNX program are decoded by, where the operator that reads them does not say it."""

from collections.abc import Iterator

from efficientvit.errors import BrokenArtifact, UnknownOperation
from runtimes.evaluator.program import Operation, Program

MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""What gives integers of the quantizer of the integers that it takes."""


def moved_constants(program: Program) -> Iterator[tuple[str, tuple[str, str]]]:
    """Integers that are moved before they are decoded: the constant, and by which scale and zero point."""
    maker = _makers(program)
    for operation in program.operations:
        for x, scale, zero in _decodes(operation):
            name = x
            while name in maker and maker[name].kind in MOVES:
                name = maker[name].names()[0]
            if name != x and name in program.constants:
                yield name, (scale, zero)


def scale_of_weights(program: Program, products: Operation, scale: str) -> str:
    """Of products of integers, which the file multiplies by `scale` times that of the weights: the latter.

    Raises:
        UnknownOperation: it does not.
    """
    maker, name = _makers(program), products.name
    for _ in range(2):  # a cast, and the product
        readers = [each for each in program.operations if name in each.names()]
        if len(readers) != 1 or readers[0].kind not in ("Cast", "Mul"):
            break
        for other in readers[0].names() if readers[0].kind == "Mul" else ():
            both = maker.get(other)
            if both is not None and both.kind == "Mul" and scale in both.names():
                return next(each for each in both.names() if each != scale)
        name = readers[0].name
    raise UnknownOperation(products.kind, f"the scale of the weights of '{products.name}' is not found")


def name_of(given: object) -> str:
    """An operand that is one value; "" where there is none."""
    if isinstance(given, tuple):
        raise BrokenArtifact("an operand of an ONNX quantizer is a list")
    return "" if given is None else str(given)


def names_in(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """An operand that is a list of values."""
    return given if isinstance(given, tuple) else (given,)


def _makers(program: Program) -> dict[str, Operation]:
    return {name: operation for operation in program.operations for name, _ in operation.outputs}


def _decodes(operation: Operation) -> Iterator[tuple[str, str, str]]:
    """The integers that an operation decodes: name, scale, zero point."""
    given = operation.inputs
    for key in given:
        if f"{key}_scale" in given:
            yield name_of(given[key]), name_of(given[f"{key}_scale"]), name_of(given.get(f"{key}_zero_point"))
