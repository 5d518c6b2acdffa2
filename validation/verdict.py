"""Verdicts as types: only a `VerifiedArtifact` can be timed, and it cannot be made without a passed report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from efficientvit.errors import VitExportError
from runtimes.artifact import Artifact
from runtimes.runtime import Attestation, Evidence
from validation.accuracy.top1 import Accuracy
from validation.gates.identity import not_proven
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.metrics import Agreement
from validation.proof.outcome import Proof


@dataclass(frozen=True, slots=True)
class DefaultsCheck:
    """The precision gate again under the runtime's own defaults: what an app gets that sets nothing."""

    attestation: Attestation
    gate: GateResult


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured of one artifact, bound to its digest. `attestation` is None where it could not be run.

    `outputs`: what it gives of the golden images, as it ships. `top1`: None where there are no classes. `accuracy`: on
    labeled images, where there were any. `proof`: what came of it, where the program could be read.
    """

    artifact_sha256: str
    evidence: Evidence
    attestation: Attestation | None
    gates: tuple[GateResult, ...]
    batches: tuple[int, ...]
    top1: Agreement | None
    defaults: DefaultsCheck | None = None
    outputs: Outputs | None = field(default=None, compare=False, repr=False)
    accuracy: Accuracy | None = None
    proof: Proof | None = field(default=None, compare=False, repr=False)

    @property
    def proven(self) -> bool:
        """The program equals the model's on every input: the identity gate passed without a warning."""
        return any(gate.gate == "identity" and gate.passed and gate.warning is None for gate in self.gates)

    @property
    def unproven(self) -> str | None:
        """What to say of a file that passed, where its format's reader gives no program to prove."""
        if not self.passed or self.outputs is None or any(gate.gate == "identity" for gate in self.gates):
            return None
        return not_proven(len(next(iter(self.outputs.values.values()))))

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
    """An artifact that could not be checked here, why, and what would check it.

    `undecided`: the options of budgets that nothing could be said of, of an artifact that passed everything else.
    """

    artifact: Artifact
    reason: str
    remedy: str
    report: Report | None = None
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled artifact that could not be run here, made from a program that passed every gate.

    `report` is about that program. It is not a `VerifiedArtifact`, so it cannot be timed.

    Raises:
        VitExportError: the report did not pass, is native, or is another artifact's.
    """

    artifact: Artifact
    report: Report
    reason: str
    remedy: str

    def __post_init__(self) -> None:
        if not self.report.passed or self.report.evidence is Evidence.NATIVE:
            raise VitExportError("what an artifact was built from has to have passed its gates, and not by running it")
        if self.report.artifact_sha256 not in (self.artifact.sha256, self.artifact.source_sha256):
            raise VitExportError(
                f"the report is not about what {self.artifact.path.name} was built from",
                expected=str(self.artifact.source_sha256),
                got=self.report.artifact_sha256,
            )


Verdict = VerifiedArtifact | Built | Rejected | NotRun


def status_of(verdict: Verdict) -> Literal["verified", "built", "rejected", "not_run"]:
    """`verified`, `built`, `rejected` or `not_run`."""
    match verdict:
        case VerifiedArtifact():
            return "verified"
        case Built():
            return "built"
        case Rejected():
            return "rejected"
        case NotRun():
            return "not_run"


def verdict_of(artifact: Artifact, report: Report, not_run: str | None = None) -> VerifiedArtifact | Built | Rejected:
    """Passed or not; with `not_run`, the reason why a compiled artifact was judged by what it was built from."""
    if not report.passed:
        return Rejected(artifact, report)
    if not_run is None:
        return VerifiedArtifact(artifact, report)
    return Built(
        artifact, report, not_run, "copy the folder to a host with a GPU, and run its kit or `vit-export verify` there"
    )


def unless_vacuous(verdict: Verdict, failures: Sequence[str], unseen: Sequence[str] = ()) -> Verdict:
    """The verdict; `NotRun` where it passed by weights on which nothing could have failed. `failures`: why not.

    `unseen`: what samples would not have shown; a program that is proven does not depend on them.
    """
    if verdict.report is not None and not verdict.report.proven:
        failures = (*failures, *unseen)
    if not failures or not isinstance(verdict, VerifiedArtifact | Built):
        return verdict
    return NotRun(
        verdict.artifact,
        reason=f"parity on these weights would be vacuous: {'; '.join(failures)}",
        remedy="export trained weights",
        report=verdict.report,
    )
