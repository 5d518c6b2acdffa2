"""How many operators a saved artifact has: the figure that a person compares between two exports."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact, Format
from runtimes.openvino_ir import import_openvino

_NOT_OPERATORS = frozenset({"Constant", "Parameter", "Result"})


def _is_data(operation: Any) -> bool:
    """Constants, ports, and the conversions that unpack constants stored in fp16."""
    kind = operation.get_type_name()
    unpacks = kind == "Convert" and operation.input_value(0).get_node().get_type_name() == "Constant"
    return unpacks or kind in _NOT_OPERATORS


def count_operators(artifact: Artifact) -> int | None:
    """Nodes of an ONNX graph; operations of an IR, a Core ML program or a parsed network, constants not counted.

    None for a compiled engine: what its layers are is between the builder and the GPU.

    Raises:
        MissingExtra: the package that reads this format is not installed.
        StageFailed: nothing here reads this format.
    """
    match artifact.format:
        case Format.ONNX:
            import onnx

            return len(onnx.load(artifact.path, load_external_data=False).graph.node)
        case Format.OPENVINO:
            operations = import_openvino().Core().read_model(artifact.path).get_ops()
            return sum(not _is_data(operation) for operation in operations)
        case Format.COREML:
            from runtimes.mil_program import load_program

            return len(load_program(artifact.path).operations)
        case Format.NETWORK:
            from runtimes.trt_network import load_network

            return len(load_network(artifact).operations)
        case Format.ENGINE:
            return None
    raise StageFailed(f"a {artifact.format} artifact has no graph to count")


_WORK = {"add", "concat", "conv", "linear", "matmul", "mul", "reduce_mean", "relu", "reshape", "sigmoid", "softmax"}

EDGES = frozenset({"cast", "classify"})
"""What stands at the edges of a Core ML package and does no work."""

COREML_KINDS = frozenset(_WORK | {"split", "transpose"} | EDGES)
"""What EfficientViT's Core ML packages may consist of. Anything else is a converter that went another way."""


def unexpected_operators(artifact: Artifact) -> Mapping[str, int]:
    """How often each operation occurs that has no business in an artifact of ours.

    Core ML only: there each kind decides on which of a phone's compute units it can run.
    """
    if artifact.format is not Format.COREML:
        return {}
    from runtimes.mil_program import load_program

    program = load_program(artifact.path)
    kinds = Counter(operation.kind for operation in program.operations if operation.kind not in COREML_KINDS)
    if not artifact.precision.weights.compressed:
        kinds.update(c.stored for c in program.constants.values() if c.stored != "const")
    return kinds
