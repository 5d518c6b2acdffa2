"""`device-report.json`, what a kit wrote: its form is checked here, its truth by `export/device_kit/verdict.py`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from efficientvit.errors import BadInput
from export.folder.device_entry import (
    UNIT_SAYS,
    ComputePlanRecord,
    DeviceRecord,
    EngineRecord,
    SpecializationRecord,
    State,
    ToolRecord,
)
from export.folder.schema import schema_of
from export.records import Record, Sha256, field_of, says
from validation.devices.units import CoreAiUnit, EngineUnit, Unit

RAN = ("passed", "rejected")
SHIPPED = "shipped"
_LARGEST_BYTES = 256 << 20


class BadReport(BadInput):
    """The file is no device report."""


class Answer(Record, frozen=True, kw_only=True):
    """The logits of one image."""

    logits: Annotated[bytes, says("The logits of one image: little-endian float32, one a class.")]

    def __post_init__(self) -> None:
        if len(self.logits) % 4:
            raise ValueError(f"Expected base64 of little-endian float32, got {len(self.logits)} bytes")

    @property
    def values(self) -> NDArray[np.float32]:
        """(k,) float32, as reported: not yet known to be as many as the classes."""
        return np.frombuffer(self.logits, "<f4").astype(np.float32)


class CaseReport(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case of the kit. Its name and the length of its logits are not yet known to be the kit's."""

    name: Annotated[str, says("As in kit.json.")]


class JpegReport(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kit's picture through the device's own decoder and resizer."""

    status: Annotated[Literal["passed", "rejected"], says("Within its budget or not.")]
    route: Annotated[str, says("vision: VNCoreMLRequest. feature_value: MLFeatureValue from a CGImage, for a "
                               "classifier, of which Vision gives no logits.")]  # fmt: skip


class DeviceTiming(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw samples, and the device's thermal state in its own words."""

    samples_ns: Annotated[
        list[Annotated[int, Meta(extra_json_schema={"exclusiveMinimum": 0})]],
        says("Every run, nanoseconds for the batch of it: one image, or as many as the kit's last run has."),
    ]
    warm_up_runs: Annotated[int, Meta(extra_json_schema={"minimum": 1}), says("Runs before the first sample.")]
    thermal_before: Annotated[str | None, says("In the system's words, before the warm-up.")]
    thermal_after: Annotated[str | None, says("After the last sample.")]

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds per batch."""
        return float(np.percentile(self.samples_ns, percent)) / 1e6


class UnitReport(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one unit did."""

    unit: Annotated[str, says(UNIT_SAYS, *Unit, *CoreAiUnit, *EngineUnit)]
    status: Annotated[State, says("crashed: it did not come back with outputs. refused: the kit was not what it was, "
                                  "and nothing ran.")]  # fmt: skip
    reason: Annotated[str | None, says("Why it did not pass.")]
    cases: Annotated[list[CaseReport], says("Every case of the kit once; empty where the unit crashed or refused.")]
    jpeg: Annotated[JpegReport | None, says("Null where it was not tried.")]
    timing: Annotated[DeviceTiming | None, says("Null unless the unit passed and was asked to time.")]
    compute_plan: Annotated[ComputePlanRecord | None, says("Null where the system does not say.")]
    engine: Annotated[
        EngineRecord | None,
        says("The engine that ran. A Core ML kit leaves the field out; null where no engine came to run."),
        Meta(extra_json_schema={"optional": True}),
    ] = None
    specialization: Annotated[
        SpecializationRecord | None,
        says("What Core AI was allowed to use. The kits of other formats leave the field out or null."),
        Meta(extra_json_schema={"optional": True}),
    ] = None


class DeviceReport(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device kit measured. vit-export attach judges it again from the raw logits."""

    schema: Annotated[Literal[1], says("Version of this form.")]
    tool: Annotated[ToolRecord, says("What ran the kit.")]
    package_sha256: Annotated[Sha256, says("As in the manifest.")]
    kit_sha256: Annotated[Sha256, says("Of the kit's data/kit.json.")]
    device: Annotated[DeviceRecord, says("As the system names itself.")]
    units: Annotated[list[UnitReport], Meta(extra_json_schema={"minItems": 1}), says("One for each unit that was run.")]


@dataclass(frozen=True, slots=True, eq=False)
class ReportFile:
    """One run of a kit. `content` is the file's, `sha256` its digest."""

    content: bytes
    report: DeviceReport

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.content).hexdigest()


def read_report(path: Path) -> ReportFile:
    """The report in the file.

    Raises:
        BadReport: unreadable, no JSON, or not of the form of a `DeviceReport`.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST_BYTES:
            raise _bad("the file", f"at most {_LARGEST_BYTES >> 20} MiB", f"{size} bytes")
        content = path.read_bytes()
        return ReportFile(content, msgspec.json.decode(content, type=DeviceReport))
    except msgspec.ValidationError as error:
        raise _bad(*field_of(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadReport(
            f"{path} is no device report",
            expected="the device-report.json that a kit wrote",
            got=str(error),
            next_step="bring it back from the device again",
        ) from error


def device_report_schema() -> dict[str, Any]:
    """Of device-report.json."""
    return schema_of(DeviceReport, "vit-export device report")


def _bad(where: str, expected: str, got: str) -> BadReport:
    return BadReport(
        f"the device report is not of the form that it should be: {where}",
        expected=expected,
        got=got[:200],
        next_step="take the file as the kit wrote it; `vit-export schema device-report` describes it",
    )
