"""A saved Core ML package, evaluated from its files on any host: the program as written, not as a device runs it.

REFERENCE evidence. The evaluator reads the package as it lies on disk, nothing is kept from the conversion; it is
never timed. Mode.ORACLE computes in float32 whatever the file declares, the other modes round every tensor to the
type that the file declares for it.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from runtimes.artifact import Artifact
from runtimes.coreml.mlpackage import load_program
from runtimes.evaluator.program import Program
from runtimes.host.machine import this_host, version
from runtimes.host.packages import in_one_sentence, missing
from runtimes.host.threads import torch_threads
from runtimes.interface import LABEL, PROBABILITIES
from runtimes.precision import Dtype
from runtimes.runtime import Answer, Attestation, Evidence, Images, Mode, Session, Values
from runtimes.session import OpenSession


class MilEvaluator:
    """Evaluates .mlpackage folders in PyTorch."""

    name = "mil"
    evidence = Evidence.REFERENCE

    def unavailable(self) -> str | None:
        """None, or which extra to install: coremltools brings the file format's protobuf."""
        return in_one_sentence(missing("coremltools", "coreml", "reading a Core ML package"))

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """What an app sets on MLModelConfiguration: the evaluator itself has nothing to set."""
        return {"compute_units": "ALL"}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `artifact`, on `threads` threads.

        Raises:
            MissingExtra: coremltools is not installed.
            BrokenArtifact: the package contradicts itself or holds what is not supported.
        """
        with torch_threads(threads), closing(_session(artifact, oracle=mode is Mode.ORACLE)) as session:
            yield session


def _session(artifact: Artifact, *, oracle: bool) -> OpenSession:
    import torch

    from runtimes.coreml.operators import MIL
    from runtimes.evaluator.evaluator import Arithmetic, Evaluator

    program = load_program(artifact.path)
    arithmetic = Arithmetic.FLOAT32 if oracle else Arithmetic.DECLARED
    (image,) = program.inputs
    network = behind_preprocessing(program, image) if artifact.interface.image_input else image
    outputs = tuple(output.name for output in artifact.model.outputs)
    evaluator = Evaluator(program, arithmetic, MIL, outputs)

    def run(images: Images) -> Values:
        evaluator.largest.clear()
        found = evaluator(feed(images), watch=oracle)
        return {name: found[name].numpy() for name in outputs}

    def feed(images: Images) -> dict[str, Any]:
        if images.dtype == np.uint8:
            return {image: torch.tensor(np.moveaxis(images, 3, 1).astype(np.float32))}
        return {network: torch.tensor(images)}

    def classify(images: Images) -> Answer:
        answer = Evaluator(program, arithmetic, MIL, (LABEL, PROBABILITIES))(feed(images))
        return answer[LABEL], answer[PROBABILITIES]

    attestation = Attestation(
        runtime="mil",
        version=version("coremltools"),
        precision=Dtype.FP32 if oracle else artifact.precision.activations,
        threads=torch.get_num_threads(),
        isa=this_host().isa,
        settings={"arithmetic": arithmetic, "opset": program.opset, "torch": version("torch")},
    )
    return OpenSession(
        attestation,
        program.inputs[image].shape,
        run,
        run_pixels=run if artifact.interface.image_input else None,
        classify=classify if artifact.interface.labels else None,
        peaks=evaluator.largest,
    )


def behind_preprocessing(program: Program, image: str) -> str:
    """The tensor to which an image input's pixels are scaled and shifted: what the network itself takes.

    Raises:
        BrokenArtifact: the input is read by something else than one scale and one bias.
    """
    name = image
    for kind in ("mul", "add"):
        readers = [operation for operation in program.operations if name in operation.names()]
        if [reader.kind for reader in readers] != [kind] or not any(
            given in program.constants for given in readers[0].names()
        ):
            raise BrokenArtifact(
                f"the image input '{image}' is not normalized as an image input is",
                expected="one scale, then one bias",
                got=", ".join(reader.kind for reader in readers) or "nothing that reads it",
            )
        name = readers[0].name
    return name
