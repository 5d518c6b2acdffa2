"""Reads OpenVINO IRs: the graph (.xml) and the weights (.bin) beside it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from runtimes.artifact import Artifact
from runtimes.evaluator.program import Program
from runtimes.interface import Port, Ports, dimensions
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.qdq import activation_quantizers
from runtimes.openvino import fake_quantize
from runtimes.openvino.package import import_openvino
from runtimes.openvino.program import read_program
from runtimes.openvino.subgraphs import OpenVinoSubgraphs
from runtimes.openvino.tensors import bare_quantizers, integer_tensors
from runtimes.openvino.wrapping import FILTERS, network_in, preprocessing_in, wrap
from runtimes.precision import Dtype, Precision
from runtimes.reader import RANGE, Constant, Layer, Layers, Quantizers, Reader, Subgraphs, Values
from runtimes.runtime import Images, Mode
from runtimes.session import refused_by
from runtimes.wrapping import Wrapping

if TYPE_CHECKING:
    from runtimes.evaluator.evaluator import Language

_ATTENTION, _SCALE = "ScaledDotProductAttention", 4
_NOT_OPERATORS = frozenset({"Constant", "Parameter", "Result"})
_WEIGHTED = frozenset(fake_quantize.PRODUCTS)


class OpenVinoReader(Reader):
    """Reads IRs with OpenVINO."""

    def ports(self, artifact: Artifact) -> Ports:
        """As the model declares them."""
        model = _model(artifact)
        return tuple(map(_port, model.inputs)), tuple(map(_port, model.outputs))

    def at_one_size(self, file: str, image: str, shape: Sequence[int]) -> str:
        """By OpenVINO itself."""
        code = f"m = ov.Core().read_model('{file}'); m.reshape({list(shape)})"
        saves = "ov.save_model(m, 'fixed.xml', compress_to_fp16=False)"
        return f'run `python -c "import openvino as ov; {code}; {saves}"`, and judge fixed.xml'

    def program(self, artifact: Artifact) -> "tuple[Program, Language]":
        """The model as it lies in the file."""
        from runtimes.openvino.operators import OPENVINO

        return read_program(_model(artifact)), OPENVINO

    resampled = frozenset(FILTERS)

    def wrap(self, network: Artifact, wrapping: Wrapping, out: Path) -> None:
        """As `runtimes.openvino.wrapping` has it."""
        _write(wrap(_model(network), wrapping), out)

    def unwrap(self, artifact: Artifact, out: Path) -> None:
        """The operations between."""
        assert artifact.interface.wrapping is not None
        outputs = [output.name for output in artifact.model.outputs]
        _write(network_in(_model(artifact), artifact.interface.wrapping, outputs), out)

    def preprocessing(self, artifact: Artifact, out: Path) -> None:
        """The operations before it."""
        _write(preprocessing_in(_model(artifact)), out)

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """Weights and their scales by the names of the ONNX file; a quantizer's four limits as one constant."""
        model = _model(artifact)
        scales = {scale.get_friendly_name(): integers for _, integers, scale in fake_quantize.scaled_weights(model)}
        for operation in model.get_ops():
            kind, name = operation.get_type_name(), operation.get_friendly_name()
            if kind == fake_quantize.FAKE:  # by the tensor's name: the converter only numbers the limits
                fake = fake_quantize.quantizer_of(operation)
                yield f"{fake.tensor}{RANGE}", np.array([fake.low, fake.high, *fake.back], np.float32)
            elif kind != "Constant" or _unit_scale(operation) or _is_limit(operation):
                continue
            elif name in scales:
                weight = scales[name].get_friendly_name().removesuffix("_quantized")
                yield f"{weight}_scale", np.array(operation.data)
            else:
                yield _source_name(name), np.array(operation.data)

    def stored_precision(self, artifact: Artifact, weights: Dtype) -> Precision:
        """Weights are stored in fp16 and computed with in float32."""
        return Precision(weights)

    def count_operators(self, artifact: Artifact) -> int | None:
        """Operations other than ports, constants, and the conversions that unpack constants stored in fp16."""
        return sum(not _is_data(operation) for operation in _model(artifact).get_ops())

    def unexpected_operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Of int8 IRs: operators that lost their quantizers, and quantizers that round to other integers."""
        found: Counter[str] = Counter()
        if artifact.precision.quantized:
            model, declared = _model(artifact), artifact.precision.float_layers
            lost = fake_quantize.left_out(model, declared)
            found.update({f"{kind} not quantized": count for kind, count in lost.items()})
            found.update(f"{name} quantized, declared float32" for name in fake_quantize.not_left_out(model, declared))
            if other := fake_quantize.not_ours(model):
                found[f"{fake_quantize.FAKE} unlike the others"] = other
        return found

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Run by OpenVINO's CPU plugin."""
        openvino = import_openvino()
        with refused_by("OpenVINO", artifact.path.name, [RuntimeError]):
            core = openvino.Core()
            model = core.read_model(artifact.path)
            if mode is Mode.ORACLE and artifact.precision.quantized:
                fake_quantize.without_quantizers(model)
            layers, shown = _layers(model)
            # What are outputs already stay the first.
            names = [_name(result.input(0).get_source_output()) for result in model.get_results()]
            outputs = tuple(names)
            shown = [each for each in shown if _name(each) not in names]
            names += [_name(each) for each in shown]
            model.add_outputs(shown)
            hint = {"INFERENCE_PRECISION_HINT": "f32"} if mode is Mode.ORACLE else {}
            compiled = core.compile_model(model, "CPU", hint)

        def run(images: Images) -> Values:
            with refused_by("OpenVINO", artifact.path.name, [RuntimeError]):
                answer = compiled(images)
            return {name: np.asarray(answer[i]) for i, name in enumerate(names)}

        return Layers(layers, outputs, run)

    def quantizers(self, artifact: Artifact) -> Quantizers:
        """The FakeQuantize operations."""
        return bare_quantizers(artifact.path)

    def calibration(self, artifact: Artifact, source: Artifact | None) -> Iterator[Constant]:
        """The quantizers' limits: the IR's own, or as they follow from the Q/DQ ONNX file that it is converted from."""
        if source is None or source.format == artifact.format:
            own = self.constants(source or artifact)
            yield from ((name, value) for name, value in own if name.endswith(RANGE))
            return
        for each in activation_quantizers(load_onnx(source.path)):
            yield f"{each.tensor}{RANGE}", np.array([*each.limits, *each.limits], np.float32)

    def subgraphs(self, artifact: Artifact) -> Subgraphs:
        """Run as they ship, against the IR's own graph with each rounding spelled out in float32."""
        reference, subgraphs = integer_tensors(artifact.path), OpenVinoSubgraphs(artifact.path)
        return Subgraphs(reference, subgraphs, subgraphs.other_kernels, subgraphs.products)

    def modules(self, artifact: Artifact) -> Mapping[str, str]:
        """By the names of the operations, each of which begins with the path of its module."""
        return fake_quantize.makers_of_quantized(artifact.path)


def _model(artifact: Artifact) -> Any:
    try:
        return import_openvino().Core().read_model(artifact.path)
    except RuntimeError as error:
        weights = artifact.path.with_suffix(".bin").name
        strange = "weights" in str(error).lower()
        raise BrokenArtifact(
            f"{weights} is not this IR's" if strange else f"{artifact.path.name} cannot be read as an OpenVINO IR",
            expected=f"the .bin that was written with {artifact.path.name}" if strange else None,
            got=next((line for line in reversed(str(error).splitlines()) if line.strip()), "no message"),
            next_step="copy both files again from the same export, or export it again",
        ) from error


def _write(model: Any, out: Path) -> None:
    import_openvino().save_model(model, out, compress_to_fp16=False)  # as they are: stored in fp16 they stay so


def _port(value: Any) -> Port:
    shape = dimensions([None if d.is_dynamic else d.get_length() for d in value.get_partial_shape()])
    name, *aliases = sorted(value.get_names()) or [""]
    return Port(name, value.get_element_type().to_dtype().name, shape, aliases=tuple(aliases))


def _source_name(name: str) -> str:
    """The name in the ONNX file: compression to fp16 appends a suffix."""
    return name.removesuffix("_compressed")


def _is_data(operation: Any) -> bool:
    kind = operation.get_type_name()
    unpacks = kind == "Convert" and operation.input_value(0).get_node().get_type_name() == "Constant"
    return unpacks or kind in _NOT_OPERATORS


def _is_limit(constant: Any) -> bool:
    """Only quantizers read it, and `constants` gives their limits."""
    readers = list(constant.output(0).get_target_inputs())
    return bool(readers) and all(
        port.get_node().get_type_name() == fake_quantize.FAKE and port.get_index() > 0 for port in readers
    )


def _unit_scale(constant: Any) -> bool:
    """The factor 1 that OpenVINO adds to an attention that it recognizes: ours is in the query's weights."""
    readers = list(constant.output(0).get_target_inputs())
    if constant.data.size != 1 or float(constant.data.reshape(-1)[0]) != 1 or len(readers) != 1:
        return False
    reader = readers[0]
    if reader.get_node().get_type_name() == "Convert":  # compressed to fp16
        (reader,) = reader.get_node().output(0).get_target_inputs()
    return bool(reader.get_node().get_type_name() == _ATTENTION and reader.get_index() == _SCALE)


def _layers(model: Any) -> tuple[tuple[Layer, ...], list[Any]]:
    """The layers of an openvino.Model, and all their outputs."""
    constant: dict[str, str] = {}
    layers: list[Layer] = []
    shown: list[Any] = []
    for op in model.get_ordered_ops():
        kind, name = op.get_type_name(), op.get_friendly_name()
        sources = [port.get_source_output() for port in op.inputs()]
        nodes = [source.get_node().get_friendly_name() for source in sources]
        if kind == "Constant" or (kind != "Parameter" and nodes and constant.keys() >= set(nodes)):
            constant[name] = constant[nodes[0]] if nodes else _source_name(name)
        elif kind not in ("Parameter", "Result"):
            reads = tuple(_name(source) for source, node in zip(sources, nodes, strict=True) if node not in constant)
            holds = tuple(constant[node] for node in nodes if node in constant)
            if _adds_bias(op, nodes, constant, layers):  # one layer of two operations, by the name of the second
                before = layers.pop()
                shown.pop()
                kind, reads, holds = before.kind, before.reads, before.holds + holds
            layers.append(Layer(name, kind, tuple(map(_name, op.outputs())), reads, holds))
            shown.extend(op.outputs())
    return tuple(layers), shown


def _adds_bias(op: Any, sources: list[str], constant: Mapping[str, str], layers: list[Layer]) -> bool:
    """It adds a constant to the output of the layer before it, which holds a weight."""
    if op.get_type_name() != "Add" or not layers or len(constant.keys() & set(sources)) != 1:
        return False
    before = layers[-1]
    return before.name in sources and bool(before.holds) and before.kind in _WEIGHTED


def _name(output: Any) -> str:
    """A name for one output of one operation; most have one."""
    name: str = output.get_node().get_friendly_name()
    return name if output.get_index() == 0 else f"{name}.{output.get_index()}"
