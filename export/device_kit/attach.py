"""`vit-export attach DIR REPORT`: a device's report, judged here from its raw outputs, becomes part of the manifest."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.errors import Refused
from efficientvit.files import replace_file
from export.device_kit.content import Content
from export.device_kit.device_report import RAN, DeviceReport, ReportFile, UnitReport, read_report
from export.device_kit.folder import open_for_kit
from export.device_kit.kit import kit_of
from export.device_kit.verdict import UnitVerdict, judge_unit
from export.exits import Exit
from export.folder.atomic import writing
from export.folder.device_entry import (
    DeviceEntry,
    DeviceKind,
    DeviceTimingRecord,
    PictureRecord,
    QualityRecord,
    ReportRecord,
)
from export.folder.exported import Exported
from export.folder.layout import DEVICE_REPORTS, MANIFEST, write_json
from runtimes.runtime import Evidence

_NOISY_ABOVE = 0.10  # quartiles wider than this share of the median, as validation/timing/latency.py has it


@dataclass(frozen=True, slots=True)
class Attachment:
    """What was written: the manifest's entries of this report, one a unit. `again`: it was there already."""

    folder: Path
    report: Path
    entries: tuple[DeviceEntry, ...]
    again: bool

    @property
    def passed(self) -> bool:
        """Every unit, and the picture where one was taken."""
        return all(entry.status == "passed" and (entry.jpeg is None or entry.jpeg.passed) for entry in self.entries)

    @property
    def code(self) -> Exit:
        """A device that rejects the artifact, or crashes on it, is no reason to ship."""
        return Exit.OK if self.passed else Exit.REJECTED


def attach(folder: Path, path: Path) -> Attachment:
    """Check the report against the folder, and fold it into the manifest; the same report twice changes nothing more.

    Raises:
        BadReport: the file is no device report.
        BadFolder: `folder` is not one that an export made.
        ArtifactChanged: the artifact, the reference or the kit in the folder is not what it was.
        Refused: the report is about another artifact or another kit, or does not follow from its own outputs.
        BadOutput: the folder cannot be written.
    """
    file = read_report(path)
    report = file.report
    exported = open_for_kit(folder)
    _require_own(report, exported)
    content = kit_of(exported)
    _require_this_kit(report, content)
    verdicts = [judge_unit(unit, exported, content) for unit in _units(report, content)]
    place, batch = Path(DEVICE_REPORTS) / f"{file.sha256[:12]}.json", content.cases[-1].batch
    written = ReportRecord(path=place.as_posix(), sha256=file.sha256)
    entries = [
        _entry(report, written, unit, verdict, batch) for unit, verdict in zip(report.units, verdicts, strict=True)
    ]
    again = _write(exported.folder, file, place, [entry.to_json() for entry in entries])
    return Attachment(folder, folder / place, tuple(entries), again)


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


def _write(folder: Path, report: ReportFile, place: Path, entries: list[dict[str, Any]]) -> bool:
    """The report first, then the manifest that names it. True if the manifest had these very entries."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    devices = list(manifest.get("devices") or [])
    own = [index for index, entry in enumerate(devices) if entry["report"]["sha256"] == report.sha256]
    again = [devices[index] for index in own] == entries
    if not again:
        kept = [entry for index, entry in enumerate(devices) if index not in own]
        first = own[0] if own else len(kept)
        manifest["devices"] = [*kept[:first], *entries, *kept[first:]]
    with writing(folder / place):
        (folder / DEVICE_REPORTS).mkdir(parents=True, exist_ok=True)
        replace_file(folder / place, lambda part: part.write_bytes(report.content))
        if not again:
            replace_file(folder / MANIFEST, lambda part: write_json(part, manifest))
    return again
