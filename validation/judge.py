"""Run an artifact on the golden inputs and pass it through the gates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact
from runtimes.base import Attestation, Mode, Runtime, Session
from runtimes.constants import read_constants
from runtimes.ports import intended_ports, read_ports
from validation.constants import audit
from validation.gates import Outputs, agreement, constants_gate, interface_gate, precision_gate, structure_gate
from validation.reference import Reference
from validation.verdict import DefaultsCheck, NotRun, Report, Verdict, verdict_of

DYNAMIC_BATCHES = (1, 3, 8)
"""The batch sizes at which a dynamic artifact is judged."""


def judge(artifact: Artifact, reference: Reference, runtime: Runtime, *, defaults: bool = False) -> Verdict:
    """The verdict on `artifact`: interface, constants, structure and precision, at every batch size that it takes.

    With `defaults` the precision gate is tried once more under the runtime's own settings and reported beside
    the verdict. A runtime that this host hasn't gives `NotRun`.

    Raises:
        ArtifactChanged: the file is not the one that was made.
        StageFailed: the runtime refuses the file.
    """
    artifact.require_unchanged()
    if (reason := runtime.unavailable()) is not None:
        return NotRun(artifact, reason, remedy="run `vit-export verify` on this folder on a host that can run it")
    batches = (artifact.batch,) if artifact.batch else DYNAMIC_BATCHES
    interface = interface_gate(read_ports(artifact), intended_ports(artifact.model, artifact.batch))
    if not interface.passed:  # then there is nothing to feed, or to compare
        with runtime.open(artifact) as session:
            report = Report(artifact.sha256, runtime.evidence, session.attestation, (interface,), (), None)
        return verdict_of(artifact, report)
    _, oracle = _outputs(artifact, runtime, Mode.ORACLE, reference, batches)
    attestation, shipped = _outputs(artifact, runtime, Mode.SHIPPED, reference, batches)
    gates = (
        interface,
        constants_gate(audit(read_constants(artifact), reference.constants)),
        structure_gate(reference, oracle),
        precision_gate(reference, shipped),
    )
    beside = None
    if defaults:
        effective, outputs = _outputs(artifact, runtime, Mode.DEFAULTS, reference, batches[:1])
        beside = DefaultsCheck(effective, precision_gate(reference, outputs))
    report = Report(
        artifact_sha256=artifact.sha256,
        evidence=runtime.evidence,
        attestation=attestation,
        gates=gates,
        batches=batches,
        top1=agreement(reference, shipped),
        defaults=beside,
    )
    return verdict_of(artifact, report)


def _outputs(
    artifact: Artifact, runtime: Runtime, mode: Mode, reference: Reference, batches: Sequence[int]
) -> tuple[Attestation, list[Outputs]]:
    with runtime.open(artifact, mode) as session:
        images, classes = reference.golden.images, reference.logits.shape[1]
        outputs = [Outputs(batch, run_batched(session, images, batch, classes)) for batch in batches]
        return session.attestation, outputs


def run_batched(session: Session, images: NDArray[np.float32], batch: int, classes: int) -> NDArray[np.float32]:
    """(n, 3, S, S) -> (n, classes), in batches of distinct images in a shuffled order.

    A batch of copies would hide a mixed-up batch, and images in order an off-by-one. The last batch is
    filled up with the first images of the order.

    Raises:
        StageFailed: the session returns another shape than (batch, classes).
    """
    count = len(images)
    order = np.arange(count) if batch == 1 else np.random.Generator(np.random.PCG64(batch)).permutation(count)
    logits = np.full((count, classes), np.nan, np.float32)
    for start in range(0, count, batch):
        rows = np.take(order, range(start, start + batch), mode="wrap")
        answer = session(np.ascontiguousarray(images[rows]))
        if answer.shape != (batch, classes):
            raise StageFailed(
                "the artifact returns logits of the wrong shape",
                expected=f"({batch}, {classes})",
                got=str(answer.shape),
                next_step="the graph's output is not the classifier's",
            )
        logits[rows] = answer
    return logits
