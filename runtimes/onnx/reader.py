"""Reads ONNX files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.artifact import Artifact
from runtimes.evaluator.program import Program, Unquantized
from runtimes.interface import Port, Ports, dimensions
from runtimes.onnx import qdq
from runtimes.onnx.graph import inferred, load_onnx, widened, write_onnx
from runtimes.onnx.program import read_program
from runtimes.onnx.runtime import own_errors
from runtimes.onnx.subgraphs import OnnxSubgraphs
from runtimes.onnx.tensors import OnnxTensors
from runtimes.onnx.unquantized import unquantized
from runtimes.onnx.wrapping import FILTERS, network_in, preprocessing_in, wrapped
from runtimes.precision import Dtype
from runtimes.reader import Constant, Layer, Layers, Quantizers, Reader, Subgraphs, Values
from runtimes.runtime import Array, Images, Mode
from runtimes.session import refused_by
from runtimes.wrapping import Wrapping

if TYPE_CHECKING:
    from runtimes.evaluator.evaluator import Language


class OnnxReader(Reader):
    """Reads .onnx files."""

    def file(self, artifact: Artifact) -> Path:
        """The ONNX file of the artifact."""
        return artifact.path

    def ports(self, artifact: Artifact) -> Ports:
        """As the graph declares them; outputs whose shapes it leaves open, which ONNX allows, as they follow."""
        graph = load_onnx(self.file(artifact), weights=False).graph
        outputs = graph.output
        if not all(map(_shaped, outputs)):
            outputs = inferred(load_onnx(self.file(artifact))).output
        return tuple(map(_port, graph.input)), tuple(map(_port, outputs))

    def at_one_size(self, file: str, image: str, shape: Sequence[int]) -> str:
        """By ONNX Runtime's own tool."""
        tool = "python -m onnxruntime.tools.make_dynamic_shape_fixed"
        sizes = ",".join(map(str, shape))
        return f"run `{tool} --input_name {image} --input_shape {sizes} {file} fixed.onnx`, and judge fixed.onnx"

    def program(self, artifact: Artifact) -> "tuple[Program, Language]":
        """The main graph, local functions inlined."""
        from runtimes.onnx.operators import ONNX

        return read_program(load_onnx(self.file(artifact))), ONNX

    def unquantized(self, program: "Program") -> Unquantized:
        """Its quantizers and its operators on integers taken apart."""
        return unquantized(program)

    resampled = frozenset(FILTERS)

    def wrap(self, network: Artifact, wrapping: Wrapping, out: Path) -> None:
        """As `runtimes.onnx.wrapping` has it."""
        write_onnx(wrapped(load_onnx(self.file(network)), wrapping), out)

    def unwrap(self, artifact: Artifact, out: Path) -> None:
        """The nodes between."""
        assert artifact.interface.wrapping is not None
        outputs = [output.name for output in artifact.model.outputs]
        write_onnx(network_in(load_onnx(self.file(artifact)), artifact.interface.wrapping, outputs), out)

    def preprocessing(self, artifact: Artifact, out: Path) -> None:
        """The nodes before it."""
        write_onnx(preprocessing_in(load_onnx(self.file(artifact))), out)

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """Initializers, then Constant nodes."""
        import onnx

        graph = load_onnx(self.file(artifact)).graph
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

    def count_operators(self, artifact: Artifact) -> int | None:
        """The nodes of the graph."""
        return len(load_onnx(self.file(artifact), weights=False).graph.node)

    def unexpected_operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Of int8 files: operators that lost their quantizers, which would be as correct as before, in float32."""
        found: Counter[str] = Counter()
        if artifact.precision.quantized:
            model, declared = load_onnx(self.file(artifact)), artifact.precision.float_layers
            depthwise, moved = artifact.precision.quantized_depthwise, artifact.precision.rounded_once
            lost = qdq.left_out(model, depthwise=depthwise, moved=moved, declared=declared)
            found.update({f"{kind} not quantized": count for kind, count in lost.items()})
            found.update(f"{name} quantized, declared float32" for name in qdq.not_left_out(model, declared))
            if other := qdq.unlike_their_quantizer(model):
                found["DequantizeLinear unlike its quantizer"] = other
        return found

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Run by ONNX Runtime."""
        import onnx

        model = load_onnx(artifact.path)
        if mode is Mode.ORACLE:
            model = qdq.without_quantizers(model) if qdq.is_quantized(model) else widened(model)
        tensors = OnnxTensors(model)
        takes = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)

        def run(images: Images) -> Values:
            with refused_by("ONNX Runtime", artifact.path.name, own_errors()):
                return tensors(images.astype(takes, copy=False))

        outputs = (output,) if output else tuple(each.name for each in model.graph.output)
        return Layers(tuple(_layers(model.graph)), outputs, run)

    def quantizers(self, artifact: Artifact) -> Quantizers:
        """The QuantizeLinear nodes of activations."""
        model = load_onnx(self.file(artifact))
        quantizers, image = tuple(qdq.activation_quantizers(model)), model.graph.input[0].name
        tensors = OnnxTensors(qdq.without_quantizers(model))
        return Quantizers(quantizers, lambda images: {image: images, **tensors(images)})

    def calibration(self, artifact: Artifact, source: Artifact | None) -> Iterator[Constant]:
        """Scales, and zero points where the precision has any: elsewhere a zero point is zero, or wrong."""
        import onnx

        model = load_onnx(self.file(source or artifact))
        quantizers = list(qdq.activation_quantizers(model))
        names = {each.scale_name for each in quantizers}
        if artifact.precision.activations is Dtype.UINT8:
            names |= {each.zero_name for each in quantizers}
        for tensor in model.graph.initializer:
            if tensor.name in names:
                yield tensor.name, np.asarray(onnx.numpy_helper.to_array(tensor))

    def subgraphs(self, artifact: Artifact) -> Subgraphs:
        """Run as they ship, against the file with ONNX Runtime's optimizations off."""
        model = load_onnx(artifact.path)
        image, reference = model.graph.input[0].name, OnnxTensors(model)
        subgraphs = OnnxSubgraphs(model)  # last: it changes the model

        def run(images: Array, right: Values) -> Values:
            return subgraphs({**right, image: images})

        return Subgraphs(reference, run)

    def modules(self, artifact: Artifact) -> Mapping[str, str]:
        """By the names of the nodes, each of which begins with the path of its module."""
        nodes = load_onnx(self.file(artifact)).graph.node
        return {name: node.name.rsplit("/", 1)[0] for node in nodes for name in node.output if "/" in node.name}


def _port(value: Any) -> Port:
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    return Port(value.name, dtype, dimensions(dims))


def _shaped(value: Any) -> bool:
    """All but the number of images is declared."""
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim[1:])


def _layers(graph: Any) -> Iterator[Layer]:
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        reads = tuple(name for name in node.input if name and name not in constant)
        if not reads:  # a constant, or computed from constants alone
            constant.update(node.output)
            continue
        holds = tuple(name for name in node.input if name in constant)
        yield Layer(node.name or node.output[0], node.op_type, tuple(filter(None, node.output)), reads, holds)
