"""A device's report as entries of a manifest: judged from its raw outputs, one entry for each unit."""

import hashlib
from pathlib import Path

from efficientvit.errors import Refused
from export.device_kit.content import Content
from export.device_kit.device_report import RAN, DeviceReport, ReportFile, UnitReport
from export.device_kit.kit import kit_of
from export.device_kit.verdict import UnitVerdict, judge_unit
from export.folder.device_entry import (
    DeviceEntry,
    DeviceKind,
    DeviceTimingRecord,
    PictureRecord,
    QualityRecord,
    ReportRecord,
)
from export.folder.exported import Exported
from export.folder.layout import DEVICE_REPORTS
from runtimes.runtime import Evidence

_NOISY_ABOVE = 0.10  # quartiles wider than this share of the median, as validation/timing/latency.py has it


def place_of(sha256: str) -> Path:
    """Where the report with this digest lies in a folder."""
    return Path(DEVICE_REPORTS) / f"{sha256[:12]}.json"


def entries_of(file: ReportFile, exported: Exported) -> list[DeviceEntry]:
    """What the report comes to, by the reference and the kit in the folder, which has to be one that has a kit.

    Raises:
        ArtifactChanged: the kit in the folder is not what would be made of it.
        Refused: the report is about another artifact or another kit, or does not follow from its own outputs.
    """
    report = file.report
    _require_own(report, exported)
    content = kit_of(exported)
    _require_this_kit(report, content)
    units, batch = _units(report, content), content.cases[-1].batch
    written = ReportRecord(path=place_of(file.sha256).as_posix(), sha256=file.sha256)
    return [_entry(report, written, unit, judge_unit(unit, exported, content), batch) for unit in units]


def _require_own(report: DeviceReport, exported: Exported) -> None:
    if report.package_sha256 != exported.artifact.sha256:
        raise Refused(
            "the report is foreign: it is about another artifact",
            expected=f"sha256 {exported.artifact.sha256}",
            got=f"sha256 {report.package_sha256}",
            next_step="attach it to the folder whose kit was run",
        )


def _require_this_kit(report: DeviceReport, content: Content) -> None:
    if report.kit_sha256 != (now := hashlib.sha256(content.kit_json).hexdigest()):
        raise Refused(
            "the report is stale: it is about another kit than the one in this folder",
            expected=f"kit.json with sha256 {now}",
            got=f"sha256 {report.kit_sha256}",
            next_step="run the kit that lies in this folder now on the device",
        )


def _units(report: DeviceReport, content: Content) -> list[UnitReport]:
    names, known = [unit.unit for unit in report.units], content.record["budgets"]
    if not names or len(set(names)) != len(names) or not set(names) <= set(known):
        raise Refused(
            "the report's compute units are not ones that this kit reports",
            expected=f"some of {', '.join(known)}, each once",
            got=", ".join(names) or "none",
            next_step="attach the report as the kit wrote it",
        )
    return report.units


def _entry(report: DeviceReport, file: ReportRecord, unit: UnitReport, verdict: UnitVerdict, batch: int) -> DeviceEntry:
    quality, picture = verdict.quality, verdict.picture
    return DeviceEntry(
        report=file,
        tool=report.tool,
        device=report.device,
        unit=unit.unit,
        status=verdict.status,
        reason=verdict.reason,
        evidence=_evidence(unit),
        engine=unit.engine,
        specialization=unit.specialization,
        kinds=[
            DeviceKind.from_attributes(kind, worst_image=kind.worst_case, images=kind.cases) for kind in verdict.kinds
        ],
        quality=None if quality is None else QualityRecord.from_attributes(quality),
        jpeg=None if picture is None else PictureRecord.from_attributes(picture),
        timing=_timing(unit, verdict.status, batch),
        compute_plan=unit.compute_plan,
    )


def _evidence(unit: UnitReport) -> Evidence | None:
    """Core AI's interpreter on the CPU is Apple's, and not on the device that the asset is for."""
    if unit.status not in RAN:
        return None
    interpreted = unit.specialization is not None and unit.specialization.runtime == "package"
    return Evidence.VENDOR if interpreted else Evidence.NATIVE


def _timing(unit: UnitReport, status: str, batch: int) -> DeviceTimingRecord:
    timing = unit.timing
    if timing is None or status != "passed":
        reason = "not asked for" if status == "passed" else "it did not pass, and nothing is timed before it does"
        return DeviceTimingRecord(measured=False, reason=reason)
    median, quartiles = timing.percentile_ms(50), timing.percentile_ms(75) - timing.percentile_ms(25)
    return DeviceTimingRecord.from_attributes(
        timing,
        measured=True,
        reason=None,
        batch=batch,
        median_ms=median,
        p90_ms=timing.percentile_ms(90),
        p99_ms=timing.percentile_ms(99),
        iqr_ms=quartiles,
        noisy=quartiles > _NOISY_ABOVE * median,
    )
