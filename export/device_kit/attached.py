"""What devices reported of a folder's artifact: judged again from the reports that lie in the folder."""

from dataclasses import dataclass

from efficientvit.errors import ArtifactChanged
from export.device_kit.device_report import BadReport, read_report
from export.device_kit.entries import entries_of, place_of
from export.device_kit.folder import require_kit
from export.folder.device_entry import DeviceEntry, failure, latest
from export.folder.exported import Exported
from runtimes.runtime import Evidence


@dataclass(frozen=True, slots=True)
class OnDevices:
    """The last entry of each unit of each device: one that was tried again counts as it came out then."""

    entries: tuple[DeviceEntry, ...] = ()

    @property
    def failed(self) -> tuple[DeviceEntry, ...]:
        """The units on which the artifact may not run."""
        return tuple(entry for entry in self.entries if failure(entry) is not None)

    @property
    def evidence(self) -> Evidence | None:
        """The strongest that a unit gives which ran the very file that ships; None if there is none."""
        known = (
            entry.evidence
            for entry in self.entries
            if failure(entry) is None and (entry.engine is None or entry.engine.origin == "shipped")
        )
        return max((each for each in known if each is not None), key=Evidence.rank, default=None)


NO_DEVICES = OnDevices()


def on_devices(exported: Exported) -> OnDevices:
    """Judge every attached report again: a manifest that was edited to agree with nothing does not help.

    Raises:
        ArtifactChanged: a report is missing or was changed, or the manifest says something else of it.
        BadOption: the artifact is none that has a kit, so that no report can be about it.
        Refused: a report is about another artifact or another kit, or does not follow from its own outputs.
    """
    recorded = exported.manifest.devices
    if not recorded:
        return NO_DEVICES
    require_kit(exported)
    found = [entry for digest in dict.fromkeys(e.report.sha256 for e in recorded) for entry in _read(digest, exported)]
    if [entry.to_json() for entry in found] != [entry.to_json() for entry in recorded]:
        raise ArtifactChanged(
            f"the manifest in {exported.folder} says of devices what their reports do not show",
            expected="the entries that follow from the reports in evidence/device-reports",
            got="others",
            next_step=f"`vit-export attach {exported.folder} REPORT` with each report as the kit wrote it",
        )
    return OnDevices(latest(found))


def _read(sha256: str, exported: Exported) -> list[DeviceEntry]:
    path = exported.folder / place_of(sha256)
    try:
        file = read_report(path)
    except BadReport as error:
        raise _changed(exported, path.name, str(error)) from error
    if file.sha256 != sha256:
        raise _changed(exported, path.name, f"sha256 {file.sha256}")
    return entries_of(file, exported)


def _changed(exported: Exported, name: str, got: str) -> ArtifactChanged:
    return ArtifactChanged(
        f"the device report {name} in {exported.folder} is not the one that was attached",
        expected=f"evidence/device-reports/{name} as attached",
        got=got,
        next_step="attach the report again, as the kit wrote it",
    )
