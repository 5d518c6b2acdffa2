"""The parity verdicts as an in-toto Statement (v1): about which files, by digest, and what was found."""

from typing import Annotated, Final, Literal, Self

import msgspec

from export.bundle.contents import Contents, Packed
from export.folder.findings import unchecked
from export.folder.manifest import Status, Top1Record
from export.records import Count, Number, Record, Sha256, Share, says
from runtimes.runtime import Evidence

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:vit-export:parity-verdicts:v1"
"""Names the form of `Verdicts`; nothing is to be fetched there."""


class Digest(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a file."""

    sha256: Annotated[Sha256, says("SHA-256 of its content.")]


class Subject(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that the statement is about (in-toto: ResourceDescriptor)."""

    name: Annotated[str, says("Relative to the bundle.")]
    digest: Annotated[Digest, says("Of its content.")]


class GateVerdict(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gate, in its own unit."""

    passed: Annotated[bool, says("Within its budget.")]
    worst: Annotated[Number, says("What was measured.")]
    budget: Annotated[Number, says("What was allowed.")]


class AccuracyVerdict(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Top-1 on labeled images."""

    images: Annotated[Count, says("How many.")]
    reference_top1: Annotated[Share, says("Of the trained form, 0 to 1.")]
    artifact_top1: Annotated[Share, says("Of the artifact, 0 to 1.")]
    drop_points: Annotated[float, says("Lost, percentage points.")]
    budget_points: Annotated[float, says("What may be lost, percentage points.")]


class ArtifactVerdict(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found of one artifact."""

    name: Annotated[str, says("Of its folder in artifacts/.")]
    manifest: Annotated[str, says("All of it, relative to the bundle; one of the subjects.")]
    sha256: Annotated[Sha256, says("Of the artifact, as its manifest has it.")]
    weights_sha256: Annotated[Sha256, says("Of the checkpoint that it was compared with.")]
    trained: Annotated[bool, says("False: untrained weights, not for release.")]
    vit_export: Annotated[str, says("The version that judged it.")]
    status: Annotated[Status, says("The verdict.")]
    evidence: Annotated[Evidence | None, says("What it rests on.")]
    evidence_required: Annotated[Evidence, says("What was required.")]
    gates: Annotated[dict[str, GateVerdict], says("Those that applied to what ships.")]
    top1: Annotated[Top1Record | None, says("Top-1 against the reference on the golden images.")]
    accuracy: Annotated[AccuracyVerdict | None, says("On labeled images; null where it was not measured.")]
    not_checked: Annotated[list[str], says("What was not looked into.")]

    @classmethod
    def of(cls, packed: Packed) -> Self:
        """As its manifest has it."""
        manifest = packed.manifest
        verdict, accuracy = manifest.stages[-1].verdict, manifest.accuracy
        return cls(
            name=packed.name,
            manifest=packed.manifest_path,
            sha256=packed.entry.sha256,
            weights_sha256=manifest.weights.sha256,
            trained=manifest.weights.trained,
            vit_export=manifest.vit_export,
            status=manifest.status,
            evidence=verdict.evidence,
            evidence_required=manifest.evidence_required,
            gates={
                name: GateVerdict(passed=gate.passed, worst=gate.worst, budget=gate.budget)
                for name, gate in verdict.gates.items()
                if gate is not None
            },
            top1=verdict.top1,
            accuracy=None
            if accuracy is None
            else AccuracyVerdict(
                images=accuracy.images,
                reference_top1=accuracy.reference.top1,
                artifact_top1=accuracy.artifact.top1,
                drop_points=accuracy.drop_points,
                budget_points=accuracy.budget_points,
            ),
            not_checked=list(unchecked(manifest)),
        )


class Verdicts(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The predicate."""

    name: Annotated[str, says("Of the bundle.")]
    version: Annotated[str, says("Of the bundle.")]
    artifacts: Annotated[list[ArtifactVerdict], says("By name.")]


class Statement(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md."""

    type: Annotated[Literal["https://in-toto.io/Statement/v1"], says("Of the statement.")] = msgspec.field(name="_type")
    subject: Annotated[list[Subject], says("Every file of every artifact.")]
    predicate_type: Annotated[str, says("Of the predicate.", PREDICATE_TYPE)] = msgspec.field(name="predicateType")
    predicate: Annotated[Verdicts, says("What was found.")]


def statement_of(contents: Contents) -> Statement:
    """About every file of every artifact."""
    return Statement(
        type=STATEMENT_TYPE,
        subject=[Subject(name=file.path, digest=Digest(sha256=file.sha256)) for file in contents.files],
        predicate_type=PREDICATE_TYPE,
        predicate=Verdicts(
            name=contents.name,
            version=contents.version,
            artifacts=[ArtifactVerdict.of(each) for each in contents.artifacts],
        ),
    )
