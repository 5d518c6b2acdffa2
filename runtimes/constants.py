"""The constants that a saved artifact holds, read from the file itself."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact, Format
from runtimes.onnx.graph import load_onnx
from runtimes.openvino.runtime import import_openvino

Constant = tuple[str, NDArray[Any]]

_ATTENTION, _SCALE = "ScaledDotProductAttention", 4


def read_constants(artifact: Artifact) -> Iterator[Constant]:
    """(name, value) of every constant, in the file's order and dtype.

    Raises:
        MissingExtra: the package that reads this format is not installed.
        StageFailed: there is no reader for the format.
    """
    reader = _READERS.get(artifact.format)
    if reader is None:
        raise StageFailed(
            f"the constants of a {artifact.format} artifact cannot be read",
            expected=" or ".join(_READERS),
            got=artifact.format,
        )
    return reader(artifact)


def _onnx(artifact: Artifact) -> Iterator[Constant]:
    import onnx

    graph = load_onnx(artifact.path).graph
    for initializer in graph.initializer:
        yield initializer.name, onnx.numpy_helper.to_array(initializer)
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.name == "value":
                yield node.output[0], onnx.numpy_helper.to_array(attribute.t)
            elif attribute.name in ("value_float", "value_floats"):
                yield node.output[0], np.array(onnx.helper.get_attribute_value(attribute), np.float32)


def _openvino(artifact: Artifact) -> Iterator[Constant]:
    from runtimes.openvino.fake_quantize import FAKE, RANGE, quantizer_of, scaled_weights

    model = import_openvino().Core().read_model(artifact.path)
    scales = {scale.get_friendly_name(): integers for _, integers, scale in scaled_weights(model)}
    for operation in model.get_ops():
        kind, name = operation.get_type_name(), operation.get_friendly_name()
        if kind == FAKE:  # its limits as one constant, by the tensor's name: the converter only numbers them
            fake = quantizer_of(operation)
            yield f"{fake.tensor}{RANGE}", np.array([fake.low, fake.high, *fake.back], np.float32)
        elif kind != "Constant" or _unit_scale(operation) or _is_limit(operation):
            continue
        elif name in scales:
            weight = scales[name].get_friendly_name().removesuffix("_quantized")
            yield f"{weight}_scale", np.array(operation.data)
        else:
            # The fp16 compression appends a suffix to the name that the ONNX file had.
            yield name.removesuffix("_compressed"), np.array(operation.data)


def _is_limit(constant: Any) -> bool:
    """Nothing but quantizers reads it, and each says it."""
    readers = list(constant.output(0).get_target_inputs())
    return bool(readers) and all(
        port.get_node().get_type_name() == "FakeQuantize" and port.get_index() > 0 for port in readers
    )


def _unit_scale(constant: Any) -> bool:
    """The factor 1 that OpenVINO puts into the attention that it recognizes: ours is in the query's weights."""
    readers = list(constant.output(0).get_target_inputs())
    if constant.data.size != 1 or float(constant.data.reshape(-1)[0]) != 1 or len(readers) != 1:
        return False
    reader = readers[0]
    if reader.get_node().get_type_name() == "Convert":  # compressed to fp16
        (reader,) = reader.get_node().output(0).get_target_inputs()
    return bool(reader.get_node().get_type_name() == _ATTENTION and reader.get_index() == _SCALE)


def _coreml(artifact: Artifact) -> Iterator[Constant]:
    from runtimes.coreml.mlpackage import load_program

    for name, constant in load_program(artifact.path).constants.items():
        if isinstance(constant.value, np.ndarray):
            yield source_name(name), constant.value


def _network(artifact: Artifact) -> Iterator[Constant]:
    from runtimes.tensorrt.evaluated import load_network

    program = load_network(artifact)
    # A quantizer's zero point is an operand of its own, and has to be zero wherever it is evaluated.
    zeros = {operation.inputs["zero"] for operation in program.operations if "zero" in operation.inputs}
    for name, constant in program.constants.items():
        if isinstance(constant.value, np.ndarray) and name not in zeros:
            yield name.removesuffix("_output"), constant.value


def source_name(name: str) -> str:
    """coremltools' name of a parameter (p_net_stem_conv_weight_to_fp16) without what it added to torch.export's."""
    for suffix in _COREML_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removeprefix("p_").removeprefix("b_").removeprefix("net_")


_COREML_SUFFIXES = ("_palettized", "_quantized", "_to_fp16")

_READERS: dict[Format, Callable[[Artifact], Iterator[Constant]]] = {
    Format.ONNX: _onnx,
    Format.OPENVINO: _openvino,
    Format.COREML: _coreml,
    Format.NETWORK: _network,
    Format.ENGINE: _network,
}
