"""`verify --junit`: what a CI server is shown is what the exit code says."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from efficientvit.errors import ArtifactChanged, BadOutput, Unavailable
from efficientvit.size import square
from efficientvit.spec import model_spec
from export.commands import junit
from export.commands.verify import Verification
from export.exits import Exit
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision
from runtimes.runtime import Evidence
from validation.gates.result import GateResult, KindError
from validation.inputs.golden_set import Kind
from validation.verdict import NotRun, Rejected, Report, Verdict

ONNX, COREML = "m0-64-onnx-fp32-untrained", "m0-64-coreml-fp16-untrained"


def _read(path: Path) -> tuple[dict[str, str], dict[str, ElementTree.Element]]:
    """The suite's counts, and its cases by name."""
    (suite,) = ElementTree.parse(path).getroot()
    cases = {case.attrib["name"]: case for case in suite}
    assert len(cases) == len(suite)
    assert suite.attrib["tests"] == str(len(cases))
    return {key: suite.attrib[key] for key in ("failures", "errors", "skipped")}, cases


def _counts(failures: int = 0, errors: int = 0, skipped: int = 0) -> dict[str, str]:
    return {"failures": str(failures), "errors": str(errors), "skipped": str(skipped)}


def test_a_good_folder_has_a_passed_case_for_each_gate(exported: Any, command: Any, tmp_path: Path) -> None:
    ran = command("verify", str(exported.out / ONNX), "--junit", "new/report.xml")
    assert ran.code == 0, ran.err
    counts, cases = _read(tmp_path / "new" / "report.xml")
    assert counts == _counts()
    tried = exported.manifest(ONNX)["stages"][-1]["verdict"]["gates"]
    assert set(cases) == {gate for gate, result in tried.items() if result} | {junit.VERDICT}
    assert list(cases)[-1] == junit.VERDICT
    assert {case.attrib["classname"] for case in cases.values()} == {f"vit-export.{ONNX}"}


def test_evidence_that_is_not_to_be_had_is_an_error(exported: Any, command: Any, tmp_path: Path) -> None:
    ran = command("verify", str(exported.out / COREML), "--require", "native", "--junit", "report.xml")
    assert ran.code == 3
    counts, cases = _read(tmp_path / "report.xml")
    assert counts == _counts(errors=1)
    (error,) = cases[junit.VERDICT]
    assert error.tag == "error"
    assert "the evidence that was required" in (error.text or "")


def test_an_untrained_fallback_is_an_error_that_says_so(artifact: Artifact, tmp_path: Path) -> None:
    verification = replace(_verification(NotRun(artifact, "no GPU here", "copy it to one")), fallback=True)
    path = tmp_path / "report.xml"
    junit.write(path, junit.of_verification(verification, verification.code(Evidence.BUILT)))
    _, cases = _read(path)
    (said,) = cases[junit.VERDICT]
    assert said.tag == "error"
    assert "untrained fallback" in (said.text or "")
    assert "evidence that was required" not in (said.text or "")


def test_a_tampered_folder_is_a_failure(exported: Any, command: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported.out / ONNX, copy)
    (copy / "ship" / "efficientvit_m0.onnx").write_bytes(b"another")
    report = tmp_path / "report.xml"
    report.write_text("<testsuites><testsuite/></testsuites>")  # of an earlier run, that passed
    ran = command("verify", str(copy), "--junit", str(report))
    assert ran.code == 1
    counts, cases = _read(report)
    assert counts == _counts(failures=1)
    (failure,) = cases[junit.VERDICT]
    assert failure.tag == "failure"
    assert failure.text is not None
    assert "not the file" in failure.text
    assert failure.text in ran.err


def test_a_file_that_cannot_be_written_is_told_before_the_work(exported: Any, command: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    ran = command("verify", str(exported.out / ONNX), "--junit", "folder")
    assert ran.code == 2
    assert "--junit" in ran.err
    assert "gate" not in ran.err


def _verification(verdict: Verdict) -> Verification:
    return Verification(Path("exports/m0-onnx-fp32"), verdict, "verified", trained=True, fallback=False)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    spec = model_spec("m0", square(64))
    return Artifact.on_disk(path, Format.ONNX, spec, made_by="simplify", batch=1, precision=Precision())


def _kind(kind: Kind, worst: float) -> KindError:
    return KindError(kind, worst, f"{kind}-3", 1e-6, 4e-6, worst, 1.0, 0.0)


def test_a_rejection_names_the_gate_and_the_kinds_over_budget(artifact: Artifact, tmp_path: Path) -> None:
    kinds = (_kind(Kind.NOISE, 5e-3), _kind(Kind.FLAT, 1e-6), _kind(Kind.PATTERN, float("nan")))
    bad = GateResult("precision", 5e-3, 4e-6, "noise is\x00 far off", 1e-6, Kind.NOISE, kinds)
    good = GateResult("interface", 0.0, 0.0, "as intended")
    report = Report(artifact.sha256, Evidence.NATIVE, None, (good, bad), (1,), None)
    path = tmp_path / "report.xml"
    junit.write(path, junit.of_verification(_verification(Rejected(artifact, report)), Exit.REJECTED))
    counts, cases = _read(path)
    assert counts == _counts(failures=2)  # the gate, and the verdict
    assert list(cases["interface"]) == []
    text = cases["precision"][0].text
    assert text is not None
    assert text.splitlines()[0] == "noise is\ufffd far off"  # XML cannot hold a NUL
    assert [line.split(":")[0] for line in text.splitlines()[1:]] == ["noise", "pattern"]


@pytest.mark.parametrize(("code", "kind"), [(Exit.NOT_VERIFIED, "error"), (Exit.OK, "skipped")])
def test_what_was_not_run_is_never_shown_as_passed(artifact: Artifact, code: Exit, kind: str, tmp_path: Path) -> None:
    """Exit 0 is then what `--require built` asked for."""
    path = tmp_path / "report.xml"
    verdict = NotRun(artifact, "no GPU here", "copy it to one")
    junit.write(path, junit.of_verification(_verification(verdict), code))
    _, cases = _read(path)
    (said,) = cases[junit.VERDICT]
    assert said.tag == kind
    assert "no GPU here" in (said.text or "")


@pytest.mark.parametrize(("error", "tag"), [(ArtifactChanged("changed"), "failure"), (Unavailable("none"), "error")])
def test_a_refusal_is_a_failure_and_a_missing_runtime_an_error(error: Any, tag: str, tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    junit.write(path, junit.of_error(Path("exports/m0"), error))
    counts, cases = _read(path)
    assert [element.tag for element in cases[junit.VERDICT]] == [tag]
    assert sum(map(int, counts.values())) == 1


def test_a_broken_write_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    blocked = tmp_path / "report.xml"
    blocked.mkdir()
    with pytest.raises(BadOutput):
        junit.write(blocked, junit.of_error(Path("exports/m0"), Unavailable("none")))
    assert [path.name for path in tmp_path.iterdir()] == ["report.xml"]
