"""A TensorRT network as its importer understood a typed ONNX file, evaluated in PyTorch, without a GPU.

REFERENCE evidence: it covers the importer, the weights and the typing; not the builder's fusions, nor the kernels.
Mode.ORACLE computes in float32 whatever the network declares, and without the quantizers between the layers; the other
modes round every tensor to the type that the network declares for it.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtimes.artifact import Artifact, Format
from runtimes.evaluator.program import Operation, Program
from runtimes.host.machine import this_host, version
from runtimes.host.packages import in_one_sentence, missing
from runtimes.host.threads import torch_threads
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Evidence, Mode, Session, Values
from runtimes.session import OpenSession
from runtimes.tensorrt.api import installed, parsed, product
from runtimes.tensorrt.network import read_network


class TrtNetwork:
    """Evaluates what TensorRT parsed."""

    name = "trt-network"
    evidence = Evidence.REFERENCE

    def unavailable(self) -> str | None:
        """None where either product is installed."""
        return None if installed() else in_one_sentence(missing("tensorrt_rtx", "tensorrt", "parsing a network"))

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """The evaluator itself has nothing to set; an engine's settings were fixed when it was built."""
        return {}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on the network of `artifact`, on `threads` threads.

        Raises:
            MissingExtra: neither product is installed.
            StageFailed: the parser refuses the file.
            BrokenArtifact: the network holds what is not supported.
        """
        with torch_threads(threads), closing(_session(artifact, oracle=mode is Mode.ORACLE)) as session:
            yield session


def typed_onnx(artifact: Artifact) -> Path:
    """The file that is parsed: the network's own, or the one beside the engine that was built from it."""
    return artifact.path.with_suffix(".onnx") if artifact.format == Format.ENGINE else artifact.path


def load_network(artifact: Artifact) -> Program:
    """Parse the artifact's file with the product at hand and read the network.

    Raises:
        MissingExtra: neither product is installed.
        StageFailed: the parser refuses the file.
        BrokenArtifact: the network holds what is not supported.
    """
    return network_of(typed_onnx(artifact))


def network_of(path: Path) -> Program:
    """The network of a typed ONNX file. Raises as `load_network`."""
    if path in _INSTEAD:
        return _INSTEAD[path]
    with parsed(path, product()) as network:
        return read_network(network.network, network.product.trt)


_INSTEAD: dict[Path, Program] = {}


@contextmanager
def read_as(path: Path, program: Program) -> Iterator[None]:
    """Within, the network of `path` reads as `program`: how a mistake of TensorRT's importer is planted."""
    _INSTEAD[path] = program
    try:
        yield
    finally:
        del _INSTEAD[path]


def _session(artifact: Artifact, *, oracle: bool) -> OpenSession:
    import torch

    from runtimes.evaluator.evaluator import Arithmetic, Evaluator
    from runtimes.tensorrt.operators import LAYERS

    using = product()
    program = load_network(artifact)
    evaluated = without_quantizers(program) if oracle else program
    evaluator = Evaluator(
        evaluated,
        Arithmetic.FLOAT32 if oracle else Arithmetic.DECLARED,
        language=LAYERS,
    )
    (image,) = program.inputs

    def run(images: Array) -> Values:
        evaluator.largest.clear()
        found = evaluator({image: torch.tensor(images)}, watch=oracle)
        return {name: found[at].numpy() for name, at in zip(program.outputs, evaluated.outputs, strict=True)}

    attestation = Attestation(
        runtime="trt-network",
        version=using.version,
        precision=Dtype.FP32 if oracle else artifact.precision.activations,
        threads=torch.get_num_threads(),
        isa=this_host().isa,
        settings={
            "product": using.name,
            "arithmetic": Arithmetic.FLOAT32 if oracle else Arithmetic.DECLARED,
            "torch": version("torch"),
        },
    )
    shape = tuple(None if size == -1 else size for size in program.inputs[image].shape)
    return OpenSession(attestation, shape, run, peaks=evaluator.largest)


def without_quantizers(program: Program) -> Program:
    """The same without the quantizers between the layers: the structure, and the decoded weights, in any arithmetic."""
    instead: dict[str, str] = {}
    kept: list[Operation] = []
    constant = set(program.constants)

    def resolved(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    for operation in program.operations:
        source = operation.inputs.get("x")
        if operation.kind in ("quantize", "dequantize") and isinstance(source, str):
            first = resolved(source)
            if first not in constant:
                instead[operation.name] = first
                continue
            constant.add(operation.name)
        inputs = {
            key: resolved(given) if isinstance(given, str) else tuple(map(resolved, given))
            for key, given in operation.inputs.items()
        }
        kept.append(replace(operation, inputs=inputs))
    return replace(program, operations=tuple(kept), outputs=tuple(map(resolved, program.outputs)))
