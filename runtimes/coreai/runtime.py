"""Apple's own Core AI runtime, on the CPU, in a process of its own that opens the saved asset.

VENDOR evidence: the very file that ships was run by its vendor's runtime, but not on the device that it is for. On
Linux that runtime is an interpreter of 0.1 to 1 s an image, so that nothing is timed in it. It has no switch for
float32 arithmetic: Mode.ORACLE is the evaluator's, which reads the same file.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.digests import tensor_digest
from efficientvit.errors import StageFailed, Unavailable
from runtimes.artifact import Artifact
from runtimes.coreai.aimodel import load_program
from runtimes.coreai.process import Child, Ended, refused
from runtimes.coreai.reader import labels_of
from runtimes.host.machine import this_host, version
from runtimes.host.packages import in_one_sentence, missing
from runtimes.host.threads import torch_threads
from runtimes.interface import PROBABILITIES
from runtimes.precision import Dtype
from runtimes.runtime import Answer, Array, Attestation, Evidence, Images, Mode, Session, Values
from runtimes.session import OpenSession

_KEPT = 64
"""Answers that a session remembers: those of the golden images, of which some are asked for again."""

SHIPPED_UNITS = "default"
"""What an app gets that sets nothing: Core AI chooses among the CPU, the GPU and the Neural Engine."""


class CoreAi:
    """Runs .aimodel folders."""

    name = "coreai"
    evidence = Evidence.VENDOR

    def unavailable(self) -> str | None:
        """None, or which extra to install: Apple's runtime comes with it."""
        return in_one_sentence(_unavailable())

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """What an app sets on its specialization options."""
        return {"compute_units": SHIPPED_UNITS}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `artifact`. Apple's runtime takes no thread count and does not report what it used.

        Raises:
            Unavailable: coreai-core is not installed, or has no wheel for this host.
            StageFailed: Apple's runtime refuses the asset.
            BrokenArtifact: the asset cannot be read.
        """
        if (error := _unavailable()) is not None:
            raise error
        if mode is Mode.ORACLE:
            with torch_threads(threads), closing(_evaluated(artifact)) as session:
                yield session
            return
        with Child("run", artifact.path) as child, closing(_run(artifact, child)) as session:
            yield session


def _unavailable() -> Unavailable | None:
    return missing("coreai", "coreai", "running a Core AI asset")


def _evaluated(artifact: Artifact) -> OpenSession:
    """The saved program in float32 arithmetic."""
    import torch

    from runtimes.coreai.operators import CORE_AI
    from runtimes.evaluator.evaluator import Arithmetic, Evaluator

    program = load_program(artifact.path)
    (image,) = program.inputs
    outputs = tuple(output.name for output in artifact.model.outputs)
    evaluator = Evaluator(program, Arithmetic.FLOAT32, CORE_AI, outputs)

    def run(images: Array) -> Values:
        evaluator.largest.clear()
        found = evaluator({image: torch.tensor(images)}, watch=True)
        return {name: found[name].numpy() for name in outputs}

    attestation = Attestation(
        runtime="evaluator",
        version=version("torch"),
        precision=Dtype.FP32,
        threads=torch.get_num_threads(),
        isa=this_host().isa,
        settings={"arithmetic": Arithmetic.FLOAT32, "coreai-core": version("coreai-core")},
    )
    return OpenSession(attestation, program.inputs[image].shape, run, peaks=evaluator.largest)


def _run(artifact: Artifact, child: Child) -> OpenSession:
    label = artifact.path.name
    try:
        ports = child.message()
    except Ended as error:
        raise refused(label, error) from error
    if len(ports["inputs"]) != 1:
        raise StageFailed(
            f"{label} does not take one image", expected="one input", got=", ".join(ports["inputs"]) or "none"
        )
    ((image, taken),) = ports["inputs"].items()

    known: dict[object, Mapping[str, NDArray[Any]]] = {}

    def answered(images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Every output. A run takes up to a second, and classes are asked for of images that were run before."""
        fed = images.astype(taken["dtype"], copy=False)  # an asset of another tool may take float16
        key = fed.shape, tensor_digest(fed)
        try:
            known[key] = known.get(key) or child.ask(image, fed)
        except Ended as error:
            raise refused(f"{label} on images {images.shape}", error) from error
        while len(known) > _KEPT:
            del known[next(iter(known))]
        return known[key]

    def run(images: Array) -> Values:
        answer = answered(images)
        own = [output.name for output in artifact.model.outputs]
        return {name: answer[name] for name in own} if set(own) <= set(answer) else dict(answer)

    def classify(images: Images) -> Answer:
        shares = answered(images)[PROBABILITIES].reshape(-1)
        labels = labels_of(artifact.path)
        if len(labels) != len(shares):
            raise StageFailed(f"{label} has {len(labels)} labels for {len(shares)} probabilities")
        return labels[int(np.argmax(shares))], dict(zip(labels, map(float, shares), strict=True))

    attestation = Attestation(
        runtime="coreai",
        version=version("coreai-core"),
        # The runtime does not report its arithmetic; the program's types are a lower bound.
        precision=artifact.precision.activations,
        threads=0,
        isa=this_host().isa,
        # Off a Mac the runtime takes no wish for a compute unit and has none but the CPU; on a Mac it is asked for.
        settings={"compute_units": "cpu", "compute_units_asked": ports["asked"], "os": this_host().os},
    )
    return OpenSession(
        attestation,
        tuple(taken["shape"]),
        run,
        classify=classify if artifact.interface.labels else None,
    )
