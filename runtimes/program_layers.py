"""The layers of an evaluated program, one by one."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from runtimes.evaluator.evaluator import Arithmetic, Evaluator, Language
from runtimes.evaluator.program import Program
from runtimes.reader import Layer, Layers, Values
from runtimes.runtime import Images, Mode


def program_layers(
    program: Program,
    language: Language,
    mode: Mode,
    outputs: tuple[str, ...],
    feed: Callable[[Images], dict[str, Any]],
    source_name: Callable[[str], str],
) -> Layers:
    """The operations of `program` that depend on its inputs.

    `feed`: images -> the program's inputs. `source_name`: a constant's name in the program -> its name in the model.
    """
    arithmetic = Arithmetic.FLOAT32 if mode is Mode.ORACLE else Arithmetic.DECLARED
    evaluator = Evaluator(program, arithmetic, language, outputs)
    constant = set(program.constants)
    layers = []
    for operation in program.operations:
        gives = tuple(name for name, _ in operation.outputs)
        reads = tuple(name for name in operation.names() if name not in constant)
        if not reads:  # computed from constants alone
            constant.update(gives)
            continue
        holds = tuple(source_name(name) for name in operation.names() if name in constant)
        layers.append(Layer(operation.name, operation.kind, gives, reads, holds))

    def run(images: Images) -> Values:
        values: dict[str, NDArray[Any]] = {}

        def keep(name: str, value: Any) -> Any:
            values[name] = value.numpy()
            return value

        evaluator(feed(images), exchange=keep)
        return values

    return Layers(tuple(layers), outputs, run)
