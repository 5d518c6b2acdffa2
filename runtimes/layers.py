"""The layers of an artifact, one by one, with what each gives while it runs: from the saved file, for every format.

In Mode.ORACLE everything is in float32 arithmetic and without the quantizers between the layers, as the structure gate
runs it; in the other modes as the file types it. Showing a tensor keeps a runtime from fusing over it, so what is seen
here is the file's own graph, not the kernels that a shipped session would choose.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact, Format
from runtimes.constants import source_name
from runtimes.host.threads import torch_threads
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.runtime import own_errors
from runtimes.openvino.runtime import import_openvino
from runtimes.runtime import Images, Mode
from runtimes.session import refused_by

if TYPE_CHECKING:
    from runtimes.coreml.mlpackage import Program

_WEIGHTED = frozenset({"Convolution", "GroupConvolution", "MatMul"})

Values = Mapping[str, NDArray[Any]]
"""What the layers gave on one batch, by the name of the tensor."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation. `gives`: its tensors; `reads`: those it takes, constants apart; `holds`: its constants by name.

    `name`: as a viewer of such files shows it. A constant's name is without what a converter added to it.
    """

    name: str
    kind: str
    gives: tuple[str, ...]
    reads: tuple[str, ...]
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layers:
    """An opened artifact: its layers in the order in which they can be computed, its output, and a way to run them."""

    layers: tuple[Layer, ...]
    output: str
    run: Callable[[Images], Values]


@contextmanager
def open_layers(
    artifact: Artifact, mode: Mode = Mode.ORACLE, threads: int = 1, output: str | None = None
) -> Iterator[Layers]:
    """The layers of `artifact`; what they hold is freed on exit. `output`: the scores, if they are not its first.

    Raises:
        MissingExtra: the package that reads the format is not installed.
        BrokenArtifact: the file contradicts itself or holds what is not known here.
        StageFailed: the runtime refuses the file, or no layers can be shown of such a file.
    """
    opened = _OPENERS.get(artifact.format)
    if opened is None:
        raise StageFailed(f"the layers of a {artifact.format} artifact cannot be shown", expected=", ".join(_OPENERS))
    with torch_threads(threads):
        yield opened(artifact, mode, output)


def _onnx(artifact: Artifact, mode: Mode, output: str | None) -> Layers:

    import onnx

    from runtimes.onnx.qdq import is_quantized, without_quantizers
    from runtimes.onnx.tensors import OnnxTensors
    from runtimes.onnx.widen import widened

    model = load_onnx(artifact.path)
    if mode is Mode.ORACLE:
        model = without_quantizers(model) if is_quantized(model) else widened(model)
    with refused_by("ONNX Runtime", artifact.path.name, own_errors()):
        tensors = OnnxTensors(model)
    constant = {tensor.name for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        holds = tuple(name for name in node.input if name in constant)
        reads = tuple(name for name in node.input if name and name not in constant)
        if not reads:  # a constant, or what only constants make
            constant.update(node.output)
            continue
        layers.append(Layer(node.name or node.output[0], node.op_type, tuple(filter(None, node.output)), reads, holds))
    takes = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    scores = output or model.graph.output[0].name

    def run(images: Images) -> Values:
        with refused_by("ONNX Runtime", artifact.path.name, own_errors()):
            return tensors(images.astype(takes, copy=False))

    return Layers(tuple(layers), scores, run)


def _openvino(artifact: Artifact, mode: Mode, _: str | None) -> Layers:
    from runtimes.openvino.fake_quantize import without_quantizers

    openvino = import_openvino()
    with refused_by("OpenVINO", artifact.path.name, [RuntimeError]):
        core = openvino.Core()
        model = core.read_model(artifact.path)
        if mode is Mode.ORACLE and artifact.precision.quantized:
            without_quantizers(model)
        constant: dict[str, str] = {}
        layers: list[Layer] = []
        shown: list[Any] = []
        for op in model.get_ordered_ops():
            kind, name = op.get_type_name(), op.get_friendly_name()
            sources = [port.get_source_output().get_node().get_friendly_name() for port in op.inputs()]
            if kind == "Constant" or (kind != "Parameter" and sources and constant.keys() >= set(sources)):
                constant[name] = constant[sources[0]] if sources else name.removesuffix("_compressed")
            elif kind not in ("Parameter", "Result"):
                gives = tuple(_port(output) for output in op.outputs())
                reads = tuple(_port(port.get_source_output()) for port, s in zip(op.inputs(), sources, strict=True)
                              if s not in constant)  # fmt: skip
                holds = tuple(constant[source] for source in sources if source in constant)
                if _adds_bias(op, sources, constant, layers):  # a layer of two operations, whose name the second has
                    before = layers.pop()
                    shown.pop()
                    reads, holds = before.reads, before.holds + holds
                    kind = before.kind
                layers.append(Layer(name, kind, gives, reads, holds))
                shown.extend(op.outputs())
        # The logits are an output already; they stay the first.
        names = [_port(model.get_results()[0].input(0).get_source_output())]
        shown = [output for output in shown if _port(output) not in names]
        names += [_port(output) for output in shown]
        model.add_outputs(shown)
        hint = {"INFERENCE_PRECISION_HINT": "f32"} if mode is Mode.ORACLE else {}
        compiled = core.compile_model(model, "CPU", hint)

    def run(images: Images) -> Values:
        with refused_by("OpenVINO", artifact.path.name, [RuntimeError]):
            answer = compiled(images)
        return {name: np.asarray(answer[i]) for i, name in enumerate(names)}

    return Layers(tuple(layers), names[0], run)


def _adds_bias(op: Any, sources: list[str], constant: Mapping[str, str], layers: list[Layer]) -> bool:
    """It adds a constant to what the layer before it, which holds a weight, gives to nobody else."""
    if op.get_type_name() != "Add" or not layers or len(constant.keys() & set(sources)) != 1:
        return False
    before = layers[-1]
    return before.name in sources and bool(before.holds) and before.kind in _WEIGHTED


def _port(output: Any) -> str:
    """A name for one output of one operation; most have one."""
    name: str = output.get_node().get_friendly_name()
    return name if output.get_index() == 0 else f"{name}.{output.get_index()}"


def _coreml(artifact: Artifact, mode: Mode, output: str | None) -> Layers:
    import torch

    from runtimes.coreml.evaluated import behind_preprocessing
    from runtimes.coreml.mlpackage import load_program
    from runtimes.evaluator.evaluator import MIL
    from runtimes.interface import OUTPUT

    program = load_program(artifact.path)
    (image,) = program.inputs

    def feed(images: Images) -> dict[str, Any]:
        if images.dtype == np.uint8:
            return {image: torch.tensor(np.moveaxis(images, 3, 1).astype(np.float32))}
        network = behind_preprocessing(program, image) if artifact.interface.image_input else image
        return {network: torch.tensor(images)}

    return _evaluated(program, MIL, mode, output or OUTPUT, feed, source_name)


def _network(artifact: Artifact, mode: Mode, _: str | None) -> Layers:
    import torch

    from runtimes.tensorrt.evaluated import load_network, without_quantizers
    from runtimes.tensorrt.operators import LAYERS

    program = load_network(artifact)
    if mode is Mode.ORACLE:
        program = without_quantizers(program)
    (image,), (logits,) = program.inputs, program.outputs

    def feed(images: Images) -> dict[str, Any]:
        return {image: torch.tensor(images)}

    return _evaluated(program, LAYERS, mode, logits, feed, lambda name: name.removesuffix("_output"))


def _evaluated(
    program: "Program",
    language: Any,
    mode: Mode,
    output: str,
    feed: Callable[[Images], dict[str, Any]],
    original: Callable[[str], str],
) -> Layers:
    from runtimes.evaluator.evaluator import Arithmetic, Evaluator

    arithmetic = Arithmetic.FLOAT32 if mode is Mode.ORACLE else Arithmetic.DECLARED
    evaluator = Evaluator(program, arithmetic, (output,), language)
    constant = set(program.constants)
    layers = []
    for operation in program.operations:
        gives = tuple(name for name, _ in operation.outputs)
        reads = tuple(name for name in operation.names() if name not in constant)
        if not reads:  # of constants alone
            constant.update(gives)
            continue
        holds = tuple(original(name) for name in operation.names() if name in constant)
        layers.append(Layer(operation.name, operation.kind, gives, reads, holds))

    def run(images: Images) -> Values:
        values: dict[str, NDArray[Any]] = {}

        def keep(name: str, value: Any) -> Any:
            values[name] = value.numpy()
            return value

        evaluator(feed(images), exchange=keep)
        return values

    return Layers(tuple(layers), output, run)


_OPENERS: Mapping[str, Callable[[Artifact, Mode, str | None], Layers]] = {
    Format.ONNX: _onnx,
    Format.OPENVINO: _openvino,
    Format.COREML: _coreml,
    Format.NETWORK: _network,
    Format.ENGINE: _network,
}
