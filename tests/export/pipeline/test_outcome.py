"""Exit codes: which error gives which, and which one counts where several things happened."""

import itertools
from pathlib import Path

import pytest

from efficientvit import errors
from export.exits import Exit, exit_code, worst
from export.pipeline.outcome import Outcome, StageResult
from export.targets.registry import TARGETS
from export.targets.target import Job
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype
from runtimes.runtime import Attestation, Evidence
from validation.gates.result import GateResult
from validation.verdict import NotRun, Report, Verdict, verdict_of

SEVEREST_FIRST = (Exit.INTERRUPTED, Exit.FAILED, Exit.REJECTED, Exit.NOT_VERIFIED, Exit.OK)


@pytest.mark.parametrize(("severe", "mild"), tuple(itertools.combinations(SEVEREST_FIRST, 2)))
def test_of_two_the_severer_counts(severe: Exit, mild: Exit) -> None:
    assert worst([severe, mild]) is worst([mild, severe]) is severe


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownModel("m9"), 2),
        (errors.BadOption("opset"), 2),
        (errors.BadCheckpoint("best.pth"), 2),
        (errors.BadGoldenSet("photos"), 2),
        (errors.BadOutput("full"), 2),
        (errors.MissingExtra("openvino", "openvino", "converting"), 3),
        (errors.DownloadFailed("no network"), 3),
        (errors.ArtifactChanged("edited"), 1),
        (errors.StageFailed("simplify"), 4),
        (errors.VitExportError("of no kind"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_code(error: errors.VitExportError, code: int) -> None:
    assert exit_code(error) == code


def _verdict(kind: str, folder: Path, evidence: Evidence = Evidence.NATIVE) -> Verdict:
    from efficientvit.spec import model_spec

    path = folder / "m0.onnx"
    path.write_bytes(b"graph")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0"), made_by="trace", batch=1)
    if kind == "not_run":
        return NotRun(artifact, reason="no Mac", remedy="take one")
    gate = GateResult("constants", float(kind == "rejected"), 0.0, "")
    attestation = Attestation("fake", "0", Dtype.FP32, 1, "none")
    return verdict_of(artifact, Report(artifact.sha256, evidence, attestation, (gate,), (1,), None))


def _outcome(verdict: Verdict, *, fallback: bool = False) -> Outcome:
    job = Job("m0", TARGETS["onnx"], "fp32", 1, 18)
    return Outcome(job, "m0-onnx-fp32", stages=[StageResult("trace", verdict, 0.0, 1)], fallback=fallback)


@pytest.mark.parametrize(
    ("kind", "evidence", "required", "code"),
    [
        ("verified", Evidence.NATIVE, Evidence.NATIVE, 0),
        ("verified", Evidence.NATIVE, Evidence.BUILT, 0),
        ("verified", Evidence.REFERENCE, Evidence.REFERENCE, 0),
        ("verified", Evidence.REFERENCE, Evidence.NATIVE, 3),
        ("verified", Evidence.VENDOR, Evidence.REFERENCE, 0),
        ("verified", Evidence.VENDOR, Evidence.VENDOR, 0),
        ("verified", Evidence.VENDOR, Evidence.NATIVE, 3),
        ("verified", Evidence.REFERENCE, Evidence.VENDOR, 3),
        ("not_run", Evidence.NATIVE, Evidence.BUILT, 0),
        ("not_run", Evidence.NATIVE, Evidence.REFERENCE, 3),
        ("rejected", Evidence.NATIVE, Evidence.BUILT, 1),
        ("rejected", Evidence.NATIVE, Evidence.NATIVE, 1),
    ],
)
def test_the_evidence_required_decides(
    kind: str, evidence: Evidence, required: Evidence, code: int, tmp_path: Path
) -> None:
    outcome = _outcome(_verdict(kind, tmp_path, evidence))
    assert (outcome.status, outcome.code(required)) == (kind, code)


@pytest.mark.parametrize(("kind", "code"), [("verified", 3), ("not_run", 3), ("rejected", 1)])
def test_a_fallback_nobody_asked_for_never_exits_with_0(kind: str, code: int, tmp_path: Path) -> None:
    for required in Evidence:
        assert _outcome(_verdict(kind, tmp_path), fallback=True).code(required) == code


def test_a_failed_stage_counts_for_more_than_what_went_before(tmp_path: Path) -> None:
    outcome = _outcome(_verdict("verified", tmp_path))
    outcome.failed_stage, outcome.error = "simplify", errors.StageFailed("onnxsim fell over")
    assert (outcome.status, outcome.code(Evidence.BUILT)) == ("failed", Exit.FAILED)
