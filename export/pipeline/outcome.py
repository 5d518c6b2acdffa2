"""What came of a job, and the exit code that says so."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from efficientvit.errors import Refused, VitExportError
from export.exits import Exit, exit_code
from export.folder.manifest import Status
from export.targets.target import Job
from runtimes.artifact import Artifact
from runtimes.runtime import Evidence
from validation.blame.ranking import Blame
from validation.gates.result import GateResult
from validation.timing.latency import Timing
from validation.trial import Spent
from validation.verdict import Built, NotRun, Rejected, Verdict, VerifiedArtifact, status_of


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The first stage: trained form to deploy form, in memory; float64 against float64, and the float32 floors."""

    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Both gates."""
        return all(gate.passed for gate in self.gates)

    @property
    def reason(self) -> str:
        """The gates over budget."""
        return "; ".join(f"{gate.gate} gate: {gate.detail}" for gate in self.gates if not gate.passed)


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage's artifact, the verdict on it and how long making it took.

    `operators`: nodes of its graph. `cached`: it was made before, and judged again now.
    """

    name: str
    verdict: Verdict
    seconds: float
    operators: int | None
    cached: bool = False

    @property
    def artifact(self) -> Artifact:
        """What the stage made."""
        return self.verdict.artifact


@dataclass(slots=True)
class Outcome:
    """One job's result. `folder` is where it was handed over, `record` its manifest; `error`: a stage failed.

    `blame`: of the rejected stage.
    """

    job: Job
    slug: str
    rewrite: Rewrite | None = None
    stages: list[StageResult] = field(default_factory=list)
    timing: Timing | None = None
    spent: Spent | None = None
    untimed: str | None = None
    folder: Path | None = None
    record: dict[str, Any] | None = None
    failed_stage: str | None = None
    error: VitExportError | None = None
    fallback: bool = False
    blame: Blame | None = None

    @property
    def final(self) -> Verdict | None:
        """The verdict on what would ship: of the last stage, once all were run; a rejection ends the chain."""
        return self.stages[-1].verdict if self.stages else None

    def settle(self, verdict: Verdict) -> None:
        """The last word on what would ship, which other jobs that share the stage have not to do with."""
        self.stages[-1] = replace(self.stages[-1], verdict=verdict)

    @property
    def rejected_stage(self) -> str | None:
        """The first stage over budget, which is the one to blame."""
        if self.rewrite is not None and not self.rewrite.passed:
            return "rewrite"
        return self.stages[-1].name if isinstance(self.final, Rejected) else None

    @property
    def status(self) -> Status:
        """`verified`, `built`, `not_run`, `rejected` or `failed`."""
        if isinstance(self.error, Refused):
            return "rejected"
        if self.error is not None or (self.final is None and (self.rewrite is None or self.rewrite.passed)):
            return "failed"
        if self.final is None:
            return "rejected"
        return status_of(self.final)

    def code(self, required: Evidence) -> Exit:
        """What this outcome alone would exit with."""
        if self.error is not None:
            return exit_code(self.error)
        if self.rewrite is not None and not self.rewrite.passed:
            return Exit.REJECTED
        match self.final:
            case Rejected():
                return Exit.REJECTED
            case VerifiedArtifact(report=report) | Built(report=report) if (
                report.evidence.at_least(required) and not self.fallback
            ):
                return Exit.OK
            case NotRun(undecided=()) if required is Evidence.BUILT and not self.fallback:
                return Exit.OK
        return Exit.NOT_VERIFIED
