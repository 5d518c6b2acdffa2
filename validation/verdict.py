"""Verdicts as types: only a `VerifiedArtifact` can be timed, and it cannot be made without a passed report."""

from dataclasses import dataclass

from efficientvit.errors import VitExportError
from runtimes.artifact import Artifact
from runtimes.base import Attestation, Evidence
from validation.gates import GateResult
from validation.metrics import Agreement


@dataclass(frozen=True, slots=True)
class DefaultsCheck:
    """The precision gate again under the runtime's own defaults: what an app gets that sets nothing."""

    attestation: Attestation
    gate: GateResult


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured of one artifact, bound to its digest. `attestation` is None where it could not be run."""

    artifact_sha256: str
    evidence: Evidence
    attestation: Attestation | None
    gates: tuple[GateResult, ...]
    batches: tuple[int, ...]
    top1: Agreement | None
    defaults: DefaultsCheck | None = None

    @property
    def passed(self) -> bool:
        """At least one gate was tried and every one passed."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)


@dataclass(frozen=True, slots=True)
class VerifiedArtifact:
    """An artifact together with the report that lets it ship.

    Raises:
        VitExportError: the report did not pass, or is another artifact's.
    """

    artifact: Artifact
    report: Report

    def __post_init__(self) -> None:
        if not self.report.passed or self.report.attestation is None:
            raise VitExportError("an artifact that did not pass its gates cannot be called verified")
        if self.report.artifact_sha256 != self.artifact.sha256:
            raise VitExportError(
                f"the report is not about {self.artifact.path.name}",
                expected=self.artifact.sha256,
                got=self.report.artifact_sha256,
            )

    @property
    def attestation(self) -> Attestation:
        """How it ran when it passed."""
        assert self.report.attestation is not None, "checked when this was made"
        return self.report.attestation


@dataclass(frozen=True, slots=True)
class Rejected:
    """An artifact that failed a gate, and the report that says which."""

    artifact: Artifact
    report: Report

    @property
    def reason(self) -> str:
        """The gates over budget, in one line."""
        return "; ".join(f"{gate.gate} gate: {gate.detail}" for gate in self.report.gates if not gate.passed)


@dataclass(frozen=True, slots=True)
class NotRun:
    """An artifact that could not be checked here, why, and what would check it."""

    artifact: Artifact
    reason: str
    remedy: str
    report: Report | None = None


Verdict = VerifiedArtifact | Rejected | NotRun


def verdict_of(artifact: Artifact, report: Report) -> VerifiedArtifact | Rejected:
    """Passed or not: there is no third outcome of a check that ran."""
    return VerifiedArtifact(artifact, report) if report.passed else Rejected(artifact, report)
