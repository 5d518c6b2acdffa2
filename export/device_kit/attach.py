"""`vit-export attach DIR REPORT`: a device's report, judged here from its raw outputs, becomes part of the manifest."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.files import replace_file
from export.device_kit.device_report import ReportFile, read_report
from export.device_kit.entries import entries_of, place_of
from export.device_kit.folder import open_for_kit
from export.exits import Exit
from export.folder.atomic import writing
from export.folder.device_entry import DeviceEntry, failure
from export.folder.layout import DEVICE_REPORTS, MANIFEST, write_json


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
        return all(failure(entry) is None for entry in self.entries)

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
    exported = open_for_kit(folder)
    entries, place = entries_of(file, exported), place_of(file.sha256)
    again = _write(exported.folder, file, place, [entry.to_json() for entry in entries])
    return Attachment(folder, folder / place, tuple(entries), again)


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
