"""How many operators a saved artifact has: the figure that a person compares between two exports."""

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


def count_operators(artifact: Artifact) -> int:
    """Nodes of an ONNX graph; operations of an IR or of a Core ML program, constants not counted.

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
            import coremltools as ct

            (function,) = ct.utils.load_spec(str(artifact.path)).mlProgram.functions.values()
            (block,) = function.block_specializations.values()
            return sum(operation.type != "const" for operation in block.operations)
    raise StageFailed(f"a {artifact.format} artifact has no graph to count")
