"""A latency cannot exist without a passed check: by the types, and at run time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from efficientvit.errors import ArtifactChanged, VitExportError
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype
from runtimes.runtime import Attestation, Evidence
from tests.runtimes.fake import FakeRuntime, constant
from validation.gates.result import GateResult
from validation.timing.latency import TimingPlan, benchmark
from validation.verdict import NotRun, Rejected, Report, VerifiedArtifact, verdict_of

ROOT = Path(__file__).parents[2]
PASSED = GateResult("constants", 0, 0, "")
FAILED = GateResult("constants", 1, 0, "")
IMAGES = np.zeros((1, 3, 64, 64), np.float32)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    return Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64), 10), made_by="trace")


def _report(artifact: Artifact, *gates: GateResult, evidence: Evidence = Evidence.NATIVE) -> Report:
    attestation = Attestation("fake", "0", Dtype.FP32, 1, "none")
    return Report(artifact.sha256, evidence, attestation, gates, (1,), None)


ALLOWED = {"VerifiedArtifact": True, "Artifact": False, "Rejected": False, "NotRun": False}


@pytest.fixture(scope="module")
def said_by_mypy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mypy says of a function that times each of them: one run, which takes seconds."""
    folder = tmp_path_factory.mktemp("snippets")
    for what in ALLOWED:
        (folder / f"{what.lower()}.py").write_text(
            "import numpy as np\n"
            "from runtimes.artifact import Artifact\n"
            "from runtimes.runtime import Runtime\n"
            "from validation.timing.latency import Timing, TimingPlan, benchmark\n"
            "from validation.verdict import NotRun, Rejected, VerifiedArtifact\n"
            f"def time_it(subject: {what}, runtime: Runtime) -> Timing:\n"
            "    return benchmark(subject, runtime, TimingPlan(), np.zeros((1, 3, 64, 64), np.float32))\n"
        )
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, ""), result.stdout + result.stderr
    lines = result.stdout.splitlines()
    own = {what: [line for line in lines if f"/{what.lower()}.py:" in line] for what in ALLOWED}
    return {what: "\n".join(found) for what, found in own.items()}


@pytest.mark.parametrize("what", ALLOWED)
def test_only_a_verified_artifact_can_be_timed(what: str, said_by_mypy: dict[str, str]) -> None:
    if ALLOWED[what]:
        assert said_by_mypy[what] == ""
    else:
        assert 'Argument 1 to "benchmark" has incompatible type' in said_by_mypy[what]


def test_no_verified_artifact_without_a_passed_report_of_its_own(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(VitExportError, match="did not pass"):
        VerifiedArtifact(artifact, _report(artifact, PASSED, FAILED))
    with pytest.raises(VitExportError, match="did not pass"):
        VerifiedArtifact(artifact, _report(artifact))
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another model")
    foreign = Artifact.on_disk(other, Format.ONNX, artifact.model, made_by="trace")
    with pytest.raises(VitExportError, match="not about"):
        VerifiedArtifact(artifact, _report(foreign, PASSED))


def test_a_report_has_two_outcomes(artifact: Artifact) -> None:
    assert isinstance(verdict_of(artifact, _report(artifact, PASSED)), VerifiedArtifact)
    assert isinstance(verdict_of(artifact, _report(artifact, FAILED)), Rejected)
    assert NotRun(artifact, "why", "next").report is None


def test_a_file_changed_after_its_verification_is_refused(artifact: Artifact) -> None:
    verified = VerifiedArtifact(artifact, _report(artifact, PASSED))
    artifact.path.write_bytes(b"a mode1")
    runtime = FakeRuntime(constant(np.zeros(10, np.float32)))
    with pytest.raises(ArtifactChanged, match="not the file"):
        benchmark(verified, runtime, TimingPlan(), IMAGES)
    assert runtime.opened == []


def test_an_evaluator_is_never_timed(artifact: Artifact) -> None:
    verified = VerifiedArtifact(artifact, _report(artifact, PASSED, evidence=Evidence.REFERENCE))
    with pytest.raises(VitExportError, match="never timed"):
        benchmark(verified, FakeRuntime(constant(np.zeros(10, np.float32))), TimingPlan(), IMAGES)


def test_timing_keeps_its_samples_and_derives_the_rest(artifact: Artifact) -> None:
    verified = VerifiedArtifact(artifact, _report(artifact, PASSED))
    plan = TimingPlan(warm_up_s=0.05, measure_s=0.01, least_samples=12)
    timing = benchmark(verified, FakeRuntime(constant(np.zeros(10, np.float32))), plan, IMAGES)
    assert len(timing.samples_ns) >= 12
    assert timing.warm_up_runs >= 20
    assert timing.median_ms == pytest.approx(np.median(timing.samples_ns) / 1e6)
    assert timing.peak_memory_bytes > 0
    with pytest.raises(VitExportError, match="batch"):
        benchmark(verified, FakeRuntime(constant(np.zeros(10, np.float32))), TimingPlan(batch=2), IMAGES)
