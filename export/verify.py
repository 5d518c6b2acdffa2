"""`vit-export verify DIR`: judge an exported folder again, on this host, from the folder alone."""

from dataclasses import dataclass
from pathlib import Path

from export.exported import BadFolder, open_exported
from export.outcome import Exit, status_of
from runtimes.base import Evidence
from runtimes.registry import runtime_for
from validation.judge import judge
from validation.verdict import Built, NotRun, Rejected, Verdict, VerifiedArtifact


@dataclass(frozen=True, slots=True)
class Verification:
    """The new verdict on a folder, and what the manifest says of the old one."""

    folder: Path
    verdict: Verdict
    recorded: str
    trained: bool
    fallback: bool

    @property
    def status(self) -> str:
        """`verified`, `built`, `rejected` or `not_run`."""
        return status_of(self.verdict)

    def code(self, required: Evidence) -> Exit:
        """As an export's exit code."""
        match self.verdict:
            case Rejected():
                return Exit.REJECTED
            case VerifiedArtifact(report=report) | Built(report=report) if (
                report.evidence.at_least(required) and not self.fallback
            ):
                return Exit.OK
        return Exit.OK if required is Evidence.BUILT and not self.fallback else Exit.NOT_VERIFIED

    def shortfall(self, code: Exit) -> str | None:
        """Why the exit code is 3: nothing is wrong with the artifact, and it is not enough."""
        if code is not Exit.NOT_VERIFIED:
            return None
        if self.fallback:
            return "the weights are an untrained fallback, which is no release: export with -w"
        return "the evidence that was required is not to be had on this host"


def verify(folder: Path) -> Verification:
    """Judge what lies in `folder/ship` against the reference in `folder/evidence`.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadGoldenSet: the reference is missing or was changed.
        NothingToShip: the export was rejected or failed.
        ArtifactChanged: the artifact, the golden set or the reference is not the one that the manifest is about.
    """
    exported = open_exported(folder)
    manifest, artifact = exported.manifest, exported.artifact
    try:
        vacuous, failures = manifest["self_check"]["vacuous"], manifest["self_check"]["failures"]
        trained, fallback = bool(manifest["weights"]["trained"]), bool(manifest["weights"]["fallback"])
        recorded = str(manifest["status"])
    except (KeyError, TypeError) as error:
        raise BadFolder(f"{folder}/manifest.json is incomplete or of another kind", got=repr(error)) from error
    runtime = runtime_for(artifact.format)
    verdict = judge(artifact, exported.reference, runtime, defaults=True, ane_budget=exported.ane_budget)
    if vacuous and isinstance(verdict, VerifiedArtifact | Built):
        verdict = NotRun(
            artifact,
            reason=f"parity on these weights would be vacuous: {'; '.join(failures)}",
            remedy="export trained weights",
            report=verdict.report,
        )
    return Verification(folder, verdict, recorded, trained, fallback)
