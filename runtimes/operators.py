"""How many operators a saved artifact has: the figure that a person compares between two exports."""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from efficientvit.deploy.compression import LEAST_ELEMENTS
from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact, Format
from runtimes.onnx.graph import load_onnx
from runtimes.openvino.runtime import import_openvino
from runtimes.precision import Dtype

if TYPE_CHECKING:
    from runtimes.coreml.mlpackage import Program

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
            return len(load_onnx(artifact.path, weights=False).graph.node)
        case Format.OPENVINO:
            operations = import_openvino().Core().read_model(artifact.path).get_ops()
            return sum(not _is_data(operation) for operation in operations)
        case Format.COREML:
            from runtimes.coreml.mlpackage import load_program

            return len(load_program(artifact.path).operations)
        case Format.NETWORK:
            from runtimes.tensorrt.evaluated import load_network

            return len(load_network(artifact).operations)
        case Format.ENGINE:
            return None
    raise StageFailed(f"a {artifact.format} artifact has no graph to count")


_WORK = {"add", "concat", "conv", "linear", "matmul", "mul", "reduce_mean", "relu", "reshape", "sigmoid", "softmax"}

_WINDOWS = {"pad", "slice_by_index", "split", "transpose"}
"""What cuts a grid into windows; those that don't fit (at 128 pixels, say) are padded, and cut off again."""

EDGES = frozenset({"cast", "classify"})
"""What stands at the edges of a Core ML package and does no work."""

COREML_KINDS = frozenset(_WORK | _WINDOWS | EDGES)
"""What EfficientViT's Core ML packages may consist of. Anything else is a converter that went another way."""

_FLOATS = frozenset({"fp16", "bf16", "fp32", "fp64"})
_ASKED = {Dtype.FP32: {"fp32"}, Dtype.FP16: {"fp16", "fp32"}, Dtype.INT8: {"fp32"}}
"""The floating-point types in a parsed network by its activations; float16 leaves in float32 what it cannot hold."""

_AFFINE = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")  # of iOS 16, of iOS 18
_TABLE = ("constexpr_lut_to_dense",)
_STORED = {Dtype.INT8: _AFFINE, Dtype.PALETTE8: _TABLE, Dtype.PALETTE6: _TABLE, Dtype.PALETTE4: _TABLE}


def unexpected_operators(artifact: Artifact) -> Mapping[str, int]:
    """How often each operation occurs that has no business in an artifact of ours, or each form of a constant.

    Of Core ML packages, where each kind decides on which of a phone's compute units it can run, and from which version
    on; of int8, where an operator that lost its quantizers is as right as before, and computes in float32, and which
    may be so only where the artifact's precision names it; and of what TensorRT parsed, where each tensor has the type
    that was asked for.
    """
    if artifact.format == Format.COREML:
        return _of_coreml(artifact)
    found: Counter[str] = Counter()
    if artifact.format == Format.OPENVINO:
        return _of_openvino(artifact) if artifact.precision.quantized else found
    if artifact.precision.quantized:
        from runtimes.onnx.qdq import left_out, not_left_out, unlike_their_quantizer
        from runtimes.tensorrt.evaluated import typed_onnx

        typed = load_onnx(typed_onnx(artifact))
        declared = artifact.precision.float_layers
        moved = artifact.precision.activations is Dtype.SYMMETRIC8
        lost = left_out(typed, depthwise=artifact.precision.quantized_depthwise, moved=moved, declared=declared)
        found.update({f"{kind} not quantized": count for kind, count in lost.items()})
        found.update(f"{name} quantized, declared float32" for name in not_left_out(typed, declared))
        if other := unlike_their_quantizer(typed):
            found["DequantizeLinear unlike its quantizer"] = other
    if artifact.format in (Format.NETWORK, Format.ENGINE):
        from runtimes.tensorrt.evaluated import load_network

        program = load_network(artifact)
        asked = _ASKED[artifact.precision.activations]
        others = (kind.dtype for kind in program.types().values() if kind.dtype in _FLOATS - asked)
        found.update(f"tensor in {dtype}" for dtype in others)
        found.update(_mixed_types(program, "to"))
    return found


def _of_openvino(artifact: Artifact) -> Mapping[str, int]:
    from runtimes.openvino.fake_quantize import FAKE, left_out, not_ours

    model = import_openvino().Core().read_model(artifact.path)
    found = Counter({f"{kind} not quantized": count for kind, count in left_out(model).items()})
    if other := not_ours(model):
        found[f"{FAKE} unlike the others"] = other
    return found


def _of_coreml(artifact: Artifact) -> Mapping[str, int]:
    from runtimes.coreml.mlpackage import load_program

    program = load_program(artifact.path)
    kinds = Counter(operation.kind for operation in program.operations if operation.kind not in COREML_KINDS)
    kinds.update(_mixed_types(program, "dtype"))
    large = set(_large_weights(program)) if artifact.precision.weights.compressed else set()
    for name, constant in program.constants.items():
        wanted = _STORED[artifact.precision.weights] if name in large else ("const",)
        if constant.stored not in wanted:
            kinds["uncompressed weight" if constant.stored == "const" else constant.stored] += 1
    return kinds


def _mixed_types(program: "Program", named_by: str) -> Iterator[str]:
    """Operations take and give one floating-point type, in Core ML and in TensorRT; a cast gives the one that it names.

    A tensor declared wider than what makes it would be rounded less here than on a device, if that took it at all.
    """
    types = program.types() | {name: constant.type for name, constant in program.constants.items()}
    for operation in program.operations:
        involved = [types[name].dtype for name in (*operation.names(), *dict(operation.outputs)) if name in types]
        if operation.kind == "cast":
            named = program.constants.get(str(operation.inputs.get(named_by)))
            mixed = named is None or types[operation.name].dtype != named.value
        else:
            mixed = len(_FLOATS & set(involved)) > 1
        if mixed:
            yield f"{operation.kind} of mixed types"


def _large_weights(program: "Program") -> Iterator[str]:
    """What is compressed where weights are, told from the file: as efficientvit.deploy.compression has it."""
    for operation in program.operations:
        if operation.kind in ("conv", "linear"):
            groups = program.constants.get(str(operation.inputs.get("groups")))
            weight = program.constants.get(str(operation.inputs["weight"]))
            dense = groups is None or groups.value == 1
            if dense and weight is not None and prod(weight.type.shape) >= LEAST_ELEMENTS:
                yield str(operation.inputs["weight"])
