"""What attached reports are worth: evidence where every unit passed, a rejection where the last word is a failure."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import ArtifactChanged, Refused
from export.device_kit.attach import attach
from export.device_kit.attached import NO_DEVICES, on_devices
from export.folder.device_entry import failure
from export.folder.exported import open_exported
from runtimes.runtime import Evidence
from tests.device_reports import edit, timed


@pytest.fixture
def reported(folder: Path, healthy_report: str) -> Path:
    """What a healthy device reports of every unit."""
    return timed(folder, healthy_report, 0)


def _crashed(report: dict[str, Any]) -> None:
    unit = report["units"][1]
    unit.update(status="crashed", reason="EXC_BAD_ACCESS", cases=[], jpeg=None, timing=None, compute_plan=None)


def _manifest(folder: Path, change: Any) -> None:
    edit(folder / "manifest.json", change)


def test_without_a_report_there_is_no_evidence(folder: Path) -> None:
    assert on_devices(open_exported(folder)) == NO_DEVICES
    assert NO_DEVICES.evidence is None


def test_a_report_of_every_unit_is_native_evidence(folder: Path, reported: Path) -> None:
    attach(folder, reported)
    found = on_devices(open_exported(folder))
    assert len(found.entries) == 4
    assert found.failed == ()
    assert found.evidence is Evidence.NATIVE


def test_a_unit_that_failed_is_a_failure_until_it_passes(folder: Path, reported: Path) -> None:
    healthy = reported.read_bytes()
    edit(reported, _crashed)
    attach(folder, reported)
    (failed,) = on_devices(open_exported(folder)).failed
    assert (failed.unit, failure(failed)) == ("CPU_AND_GPU", "EXC_BAD_ACCESS")
    reported.write_bytes(healthy)
    attach(folder, reported)
    found = on_devices(open_exported(folder))
    assert (found.failed, len(found.entries)) == ((), 4)


def test_another_device_does_not_make_good_what_failed_on_the_first(folder: Path, reported: Path) -> None:
    healthy = reported.read_bytes()
    edit(reported, _crashed)
    attach(folder, reported)
    reported.write_bytes(healthy)
    edit(reported, lambda report: report["device"].update(model="Mac99,1"))
    attach(folder, reported)
    assert len(on_devices(open_exported(folder)).failed) == 1


def _passes(manifest: dict[str, Any]) -> None:
    entry = manifest["devices"][1]
    manifest["devices"][1] = {**manifest["devices"][0], "unit": entry["unit"]}


def _without(manifest: dict[str, Any]) -> None:
    del manifest["devices"][1]


@pytest.mark.parametrize("change", [_passes, _without])
def test_a_manifest_that_says_more_than_the_report_is_refused(folder: Path, reported: Path, change: Any) -> None:
    edit(reported, _crashed)
    attach(folder, reported)
    _manifest(folder, change)
    with pytest.raises(ArtifactChanged, match="what their reports do not show"):
        on_devices(open_exported(folder))


def test_a_report_that_is_missing_or_was_changed_is_refused(folder: Path, reported: Path) -> None:
    attached = attach(folder, reported)
    attached.report.write_bytes(attached.report.read_bytes() + b" ")
    with pytest.raises(ArtifactChanged, match="not the one that was attached"):
        on_devices(open_exported(folder))
    attached.report.unlink()
    with pytest.raises(ArtifactChanged, match="not the one that was attached"):
        on_devices(open_exported(folder))


def test_a_report_of_another_artifact_is_refused(folder: Path, reported: Path) -> None:
    """Also where manifest and file agree on it."""
    attached = attach(folder, reported)
    edit(attached.report, lambda report: report.update(package_sha256="0" * 64))
    digest = hashlib.sha256(attached.report.read_bytes()).hexdigest()
    place = f"evidence/device-reports/{digest[:12]}.json"
    attached.report.rename(folder / place)
    _manifest(
        folder, lambda manifest: [e.update(report={"path": place, "sha256": digest}) for e in manifest["devices"]]
    )
    with pytest.raises(Refused, match="about another artifact"):
        on_devices(open_exported(folder))
