"""`--summary FILE`: what the page of a job on GitHub says."""

from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import ArtifactChanged, BadOutput
from export.commands.step_summary import of_bundle, of_exports, of_verdict, reported
from export.report.markdown import code, table, text
from runtimes.precision import Precision
from tests.manifests import manifest, stage


def gate(worst: float | str, budget: float, *, passed: bool = True, kinds: int = 1) -> dict[str, Any]:
    return {"passed": passed, "worst": worst, "budget": budget, "kinds": [{}] * kinds, "detail": "worst on a|b"}


def artifact(**changes: Any) -> dict[str, Any]:
    made = stage("simplify", {"format": "onnx", "sha256": "0" * 64, "bytes": 4_400_000}, Precision())
    made["verdict"] |= {
        "status": "verified", "evidence": "native", "reason": None,
        "gates": {"structure": gate(2e-6, 7e-6), "precision": gate(3e-6, 7e-6), "interface": gate(0, 0, kinds=0)},
    }  # fmt: skip
    found = manifest(64, 10, Precision(), stages=[made], status="verified", exit_code=0)
    return {**found, "folder": "exports/m0-onnx", **changes}


def test_exports_are_a_table() -> None:
    timing = {"measured": True, "median_ms": 1.234, "noisy": True}
    accuracy = {"drop_points": 0.1, "budget_points": 0.5}
    lines = of_exports({"artifacts": [artifact(timing=timing, accuracy=accuracy)]})
    assert lines[0].startswith("| artifact | verdict |")
    said = "| `m0-onnx` | verified | native | 3.0e-06 of 7.0e-06 (precision) | 4.40 | 1.23 (noisy) | 0.10 of 0.50 |"
    assert lines[2] == said
    assert lines[-1] == "- `m0-onnx`: **untrained weights**, not for release"


def test_what_was_rejected_says_why_and_where() -> None:
    bad = artifact(status="rejected", exit_code=1, blame={"suspects": [{"says": "layer <b>"}]})
    verdict = bad["stages"][-1]["verdict"]
    verdict |= {"status": "rejected", "reason": "over | budget"}
    verdict["gates"]["structure"] = gate("nan", 7e-6, passed=False)
    lines = of_exports({"artifacts": [bad]})
    assert "| **rejected** | native | nan of 7.0e-06 (structure) |" in lines[2]
    assert "- `m0-onnx`: over \\| budget" in lines
    assert "  - likely at fault: layer \\<b\\>" in lines


def test_what_failed_has_no_artifact() -> None:
    failed = artifact(status="failed", exit_code=4, failed={"stage": "trace", "error": "no memory"})
    failed["stages"] = [{**failed["stages"][0], "artifact": None}]
    lines = of_exports({"artifacts": [failed]})
    assert "| **failed** |" in lines[2]
    assert "- `m0-onnx`: no memory" in lines


def test_a_verdict_is_a_table_of_gates() -> None:
    document = {"status": "not_run", "evidence": None, "gates": {"structure": gate(1e-5, 7e-6, passed=False)},
                "reason": "no device", "vacuous": ["why"], "blame": None}  # fmt: skip
    lines = of_verdict(document)
    assert lines[2] == "| structure | **over budget** | 1.0e-05 | 7.0e-06 | worst on a\\|b |"
    assert lines[-3:] == ["- not run, no evidence", "- no device", "- parity on these weights is vacuous: why"]
    assert of_verdict({**document, "gates": None})[-1] == lines[-1]


def test_a_bundle_says_whose_it_is_and_what_is_wrong() -> None:
    signed = {"verified": False, "subject": None, "by": "key", "sha256": "ab"}
    document = {"artifacts": None, "signed": signed, "problems": [{"file": "x`y", "problem": "it <was> changed"}]}
    lines = of_bundle(document)
    assert lines[-2:] == ["- signature **not verified**: key, sha256 `ab`", "- `x'y`: it \\<was\\> changed"]
    assert "- unsigned" in of_bundle({**document, "signed": None})


def test_sections_are_added_and_errors_too(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    with reported(path, "one") as page:
        page.add(0, ["fine"])
    with pytest.raises(ArtifactChanged), reported(path, "two"):
        raise ArtifactChanged("it was ``` changed", expected="a", got="b")
    said = path.read_text(encoding="utf-8")
    assert said.startswith("before\n\n### one: ✅ passed\n\nfine\n")
    assert "### two: ❌ rejected\n\n```text\nit was ''' changed\n  expected: a\n  got:      b\n```\n" in said


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with reported(None, "one") as page:
        page.add(0, ["fine"])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOutput, match="cannot write"), reported(tmp_path / "file" / "summary.md", "one"):
        pytest.fail("it began")


def test_what_comes_from_outside_is_text() -> None:
    assert text("a_b|<c>\n[d](e)") == r"a\_b\|\<c\> \[d\](e)"
    assert code("a`b|c\nd") == "`a'b¦c d`"
    assert table(("a", "n:"), [("x", "1")]) == ["| a | n |", "| --- | --: |", "| x | 1 |"]
