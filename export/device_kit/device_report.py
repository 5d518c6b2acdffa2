"""`device-report.json`, as device-report.schema.json describes it: its form is checked here, its truth elsewhere."""

import base64
import binascii
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadInput

SCHEMA = 1
STATES = ("passed", "rejected", "crashed", "refused")
RAN = ("passed", "rejected")
SHIPPED, REBUILT = "shipped", "rebuilt"
GRAPH, PLAIN = "graph", "plain"
_LARGEST = 256 << 20

_T = TypeVar("_T")


class BadReport(BadInput):
    """The file is no device report."""


@dataclass(frozen=True, slots=True)
class DeviceTiming:
    """Raw samples, nanoseconds per batch, and the device's thermal state in its own words."""

    samples_ns: tuple[int, ...]
    warm_up_runs: int
    thermal_before: str | None
    thermal_after: str | None

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds per batch."""
        return float(np.percentile(self.samples_ns, percent)) / 1e6


@dataclass(frozen=True, slots=True, eq=False)
class PictureReport:
    """The picture's logits, (k,) float32, and the route by which they were got."""

    status: str
    route: str
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The engine that a unit ran: the one that shipped, or one built on the device, and why. All in its own words."""

    product: str
    version: str
    sha256: str
    origin: str
    reason: str | None
    gpu: str
    compute_capability: str
    driver: str | None
    cuda: str
    launch: str | None
    launch_reason: str | None


@dataclass(frozen=True, slots=True, eq=False)
class UnitReport:
    """What one unit did. `cases`: names and logits (k,) float32, as reported: not yet told to be the kit's.

    `engine`: None of a Core ML package, and where no engine came to run.
    """

    unit: str
    status: str
    reason: str | None
    cases: tuple[tuple[str, NDArray[np.float32]], ...]
    picture: PictureReport | None
    timing: DeviceTiming | None
    compute_plan: Mapping[str, Any] | None
    engine: EngineReport | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DeviceReport:
    """One run of a kit. `content` is the file's, `sha256` its digest."""

    content: bytes
    tool: Mapping[str, str]
    package_sha256: str
    kit_sha256: str
    device: Mapping[str, str | None]
    units: tuple[UnitReport, ...]

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.content).hexdigest()


def read_report(path: Path) -> DeviceReport:
    """The report in the file.

    Raises:
        BadReport: unreadable, no JSON, or not of the form that device-report.schema.json describes.
    """
    try:
        if path.stat().st_size > _LARGEST:
            _bad("the file", f"at most {_LARGEST >> 20} MiB", f"{path.stat().st_size} bytes")
        content = path.read_bytes()
        record = json.loads(content, parse_constant=lambda word: _bad("a number", "a finite one", word))
    except (OSError, ValueError, RecursionError) as error:
        raise BadReport(
            f"{path} is no device report",
            expected="the device-report.json that a kit wrote",
            got=str(error),
            next_step="bring it back from the device again",
        ) from error
    if isinstance(record, dict) and record.get("schema") != SCHEMA:
        _bad("schema", str(SCHEMA), repr(record.get("schema")))
    fields = _fields(record, "report", ("schema", "tool", "package_sha256", "kit_sha256", "device", "units"))
    tool = _fields(fields["tool"], "tool", ("name", "version", "runtime"))
    device = _fields(fields["device"], "device", ("model", "os", "os_build", "chip"))
    return DeviceReport(
        content=content,
        tool={name: _is(value, str, f"tool.{name}") for name, value in tool.items()},
        package_sha256=_is(fields["package_sha256"], str, "package_sha256"),
        kit_sha256=_is(fields["kit_sha256"], str, "kit_sha256"),
        device={
            "model": _is(device["model"], str, "device.model"),
            "os": _is(device["os"], str, "device.os"),
            "os_build": _text_or_none(device["os_build"], "device.os_build"),
            "chip": _text_or_none(device["chip"], "device.chip"),
        },
        units=tuple(_unit(entry) for entry in _is(fields["units"], list, "units")),
    )


def _unit(record: Any) -> UnitReport:
    names = ("unit", "status", "reason", "cases", "jpeg", "timing", "compute_plan")
    fields = _fields(record, "a unit", names, optional=("engine",))
    unit = _is(fields["unit"], str, "unit")
    status = _is(fields["status"], str, f"{unit}.status")
    if status not in STATES:
        _bad(f"{unit}.status", ", ".join(STATES), status)
    cases = []
    for entry in _is(fields["cases"], list, f"{unit}.cases"):
        case = _fields(entry, f"a case of {unit}", ("name", "logits"))
        name = _is(case["name"], str, f"the name of a case of {unit}")
        cases.append((name, _logits(case["logits"], f"{unit}, {name}")))
    return UnitReport(
        unit=unit,
        status=status,
        reason=_text_or_none(fields["reason"], f"{unit}.reason"),
        cases=tuple(cases),
        picture=_picture(fields["jpeg"], unit),
        timing=_timing(fields["timing"], unit),
        compute_plan=_compute_plan(fields["compute_plan"], unit),
        engine=_engine(fields.get("engine"), unit),
    )


def _picture(record: Any, unit: str) -> PictureReport | None:
    if record is None:
        return None
    fields = _fields(record, f"{unit}.jpeg", ("status", "route", "logits"))
    status = _is(fields["status"], str, f"{unit}.jpeg.status")
    if status not in RAN:
        _bad(f"{unit}.jpeg.status", ", ".join(RAN), status)
    route = _is(fields["route"], str, f"{unit}.jpeg.route")
    return PictureReport(status, route, _logits(fields["logits"], f"{unit}.jpeg"))


def _timing(record: Any, unit: str) -> DeviceTiming | None:
    if record is None:
        return None
    names = ("samples_ns", "warm_up_runs", "thermal_before", "thermal_after")
    fields = _fields(record, f"{unit}.timing", names)
    samples = _is(fields["samples_ns"], list, f"{unit}.timing.samples_ns")
    return DeviceTiming(
        samples_ns=tuple(_is(sample, int, f"a sample of {unit}") for sample in samples),
        warm_up_runs=_is(fields["warm_up_runs"], int, f"{unit}.timing.warm_up_runs"),
        thermal_before=_text_or_none(fields["thermal_before"], f"{unit}.timing.thermal_before"),
        thermal_after=_text_or_none(fields["thermal_after"], f"{unit}.timing.thermal_after"),
    )


def _compute_plan(record: Any, unit: str) -> Mapping[str, Any] | None:
    if record is None:
        return None
    fields = _fields(record, f"{unit}.compute_plan", ("operations", "preferred"))
    operations = _is(fields["operations"], int, f"{unit}.compute_plan.operations")
    preferred = _is(fields["preferred"], dict, f"{unit}.compute_plan.preferred")
    counts = {name: _is(count, int, f"{unit}.compute_plan.preferred.{name}") for name, count in preferred.items()}
    if min([operations, *counts.values()]) < 0 or sum(counts.values()) != operations:
        _bad(f"{unit}.compute_plan", "counts that add up to the operations", repr(record))
    return {"operations": operations, "preferred": counts}


def _engine(record: Any, unit: str) -> EngineReport | None:
    if record is None:
        return None
    where = f"{unit}.engine"
    names = tuple(field.name for field in dataclasses.fields(EngineReport))
    optional = ("reason", "driver", "launch", "launch_reason")
    texts: dict[str, Any] = {
        name: _text_or_none(value, f"{where}.{name}") if name in optional else _is(value, str, f"{where}.{name}")
        for name, value in _fields(record, where, names).items()
    }
    if texts["origin"] not in (SHIPPED, REBUILT):
        _bad(f"{where}.origin", f"{SHIPPED} or {REBUILT}", texts["origin"])
    if texts["launch"] not in (GRAPH, PLAIN, None):
        _bad(f"{where}.launch", f"{GRAPH}, {PLAIN} or null", texts["launch"])
    return EngineReport(**texts)


def _logits(text: Any, where: str) -> NDArray[np.float32]:
    try:
        raw = base64.b64decode(_is(text, str, where), validate=True)
        return np.frombuffer(raw, "<f4").astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise BadReport(
            f"the logits of {where} cannot be decoded", expected="base64 of little-endian float32", got=str(error)
        ) from error


def _fields(record: Any, where: str, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    fields: dict[str, Any] = _is(record, dict, where)
    if sorted(set(fields) - set(optional)) != sorted(names):
        _bad(where, ", ".join(names), ", ".join(sorted(fields)) or "nothing")
    return fields


def _is(value: Any, kind: type[_T], where: str) -> _T:
    if not isinstance(value, kind) or isinstance(value, bool):
        _bad(where, kind.__name__, f"{type(value).__name__}")
    return value


def _text_or_none(value: Any, where: str) -> str | None:
    return None if value is None else _is(value, str, where)


def _bad(where: str, expected: str, got: str) -> NoReturn:
    raise BadReport(
        f"the device report is not of the form that it should be: {where}",
        expected=expected,
        got=got[:200],
        next_step="take the file as the kit wrote it; export/device-report.schema.json describes it",
    )
