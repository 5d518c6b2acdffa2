"""Reads what TensorRT parsed: a typed ONNX file, or the one beside the engine that was built from it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import Artifact, Format
from runtimes.evaluator.program import FLOATS, Program, mixed_types
from runtimes.interface import Ports
from runtimes.onnx.reader import OnnxReader
from runtimes.onnx.tensors import OnnxTensors
from runtimes.precision import Dtype
from runtimes.reader import Constant, Layers, Subgraphs, Values
from runtimes.runtime import Array, Images, Mode
from runtimes.tensorrt.evaluated import load_network, typed_onnx, without_quantizers

if TYPE_CHECKING:
    from runtimes.evaluator.evaluator import Language

_ASKED = {Dtype.FP32: {"fp32"}, Dtype.FP16: {"fp16", "fp32"}, Dtype.INT8: {"fp32"}}
"""The floating-point types of a parsed network by its activations; float16 keeps in float32 what it cannot hold."""


class NetworkReader(OnnxReader):
    """Reads networks and engines: quantizers in the ONNX file, everything else in the parsed network."""

    def file(self, artifact: Artifact) -> Path:
        """The file that TensorRT parses."""
        return typed_onnx(artifact)

    def ports(self, artifact: Artifact) -> Ports:
        """As the network declares them."""
        return load_network(artifact).ports()

    def program(self, artifact: Artifact) -> "tuple[Program, Language]":
        """The parsed network; of an engine, that of the file that it was built from."""
        from runtimes.tensorrt.operators import LAYERS

        return load_network(artifact), LAYERS

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """The network's weights, without the zero points: where they are evaluated they must be zero."""
        program = load_network(artifact)
        zeros = {operation.inputs["zero"] for operation in program.operations if "zero" in operation.inputs}
        for name, constant in program.constants.items():
            if isinstance(constant.value, np.ndarray) and name not in zeros:
                yield _source_name(name), constant.value

    def count_operators(self, artifact: Artifact) -> int | None:
        """The layers of the network; None for an engine, whose layers are chosen by the builder."""
        return None if artifact.format == Format.ENGINE else len(load_network(artifact).operations)

    def unexpected_operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Those of the ONNX file, and tensors of another type than was asked for."""
        found = Counter(super().unexpected_operators(artifact))
        program = load_network(artifact)
        unasked = FLOATS - _ASKED[artifact.precision.activations]
        declared = (declared.dtype for declared in program.types().values())
        found.update(f"tensor in {dtype}" for dtype in declared if dtype in unasked)
        found.update(mixed_types(program, "to"))
        return found

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Run by the evaluator."""
        import torch

        from runtimes.program_layers import program_layers
        from runtimes.tensorrt.operators import LAYERS

        program = load_network(artifact)
        if mode is Mode.ORACLE:
            program = without_quantizers(program)
        (image,) = program.inputs

        def feed(images: Images) -> dict[str, Any]:
            return {image: torch.tensor(images)}

        return program_layers(program, LAYERS, mode, program.outputs, feed, _source_name)

    def subgraphs(self, artifact: Artifact) -> Subgraphs:
        """The layers that the ONNX file has too, against ONNX Runtime with its optimizations off."""
        import torch

        from runtimes.evaluator.evaluator import Arithmetic, Evaluator
        from runtimes.tensorrt.operators import LAYERS

        program = load_network(artifact)
        evaluator = Evaluator(program, Arithmetic.DECLARED, LAYERS)
        (image,) = program.inputs

        def run(images: Array, right: Values) -> Values:
            values: dict[str, NDArray[Any]] = {}

            def exchange(name: str, computed: torch.Tensor) -> torch.Tensor:
                """Keep what a layer computed, and go on with the reference, unless it is another tensor altogether."""
                if name not in right:
                    return computed
                values[name], wanted = computed.numpy(), torch.from_numpy(right[name])
                return wanted if (wanted.shape, wanted.dtype) == (computed.shape, computed.dtype) else computed

            evaluator({image: torch.tensor(images)}, exchange=exchange)
            return values

        return Subgraphs(OnnxTensors(self.file(artifact)), run)


def _source_name(name: str) -> str:
    return name.removesuffix("_output")
