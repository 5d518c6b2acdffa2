"""What `vit-export attach` writes into a manifest: one entry per unit and report."""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from export.records import Count, IfMeasured, Number, Positive, Record, Sha256, says
from runtimes.runtime import Evidence
from validation.devices.units import CoreAiUnit, EngineUnit, Unit
from validation.inputs.golden_set import Kind

State = Literal["passed", "rejected", "crashed", "refused"]

UNIT_SAYS = (
    "Of Core ML, MLComputeUnits; of Core AI, the specialization options; of an engine, TensorRT for RTX or TensorRT "
    "itself."
)


class ToolRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ran the kit."""

    name: Annotated[str, says("check_on_mac.py, check_coreai_on_mac.py, DeviceKit or check_on_gpu.py.")]
    version: Annotated[str, says("The vit-export that made the kit.")]
    runtime: Annotated[str, says("What ran the artifact, with its version.")]


class DeviceRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The device, as the system names itself."""

    model: Annotated[str, says("Such as Mac14,2 or iPhone15,2, or the GPU's name.")]
    os: Annotated[str, says("Name and version.")]
    os_build: Annotated[str | None, says("Build; null where the system does not say.")]
    chip: Annotated[str | None, says("Such as Apple M2, or the GPU's compute capability; null where the system does "
                                     "not say.")]  # fmt: skip


class EngineRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The engine that a unit ran."""

    product: Annotated[str, says("tensorrt-rtx or tensorrt.")]
    version: Annotated[str, says("Of the library.")]
    sha256: Annotated[Sha256, says("Of the engine's own bytes, without the ONNX file beside it.")]
    origin: Annotated[
        Literal["shipped", "rebuilt"],
        says("shipped: the engine in ship/. rebuilt: one that was built on the device from the typed ONNX file, of "
             "which alone this entry speaks."),
    ]  # fmt: skip
    reason: Annotated[str | None, says("Why it was rebuilt.")]
    gpu: Annotated[str, says("Its name.")]
    compute_capability: Annotated[str, says("Such as 8.9.")]
    driver: Annotated[str | None, says("Its version; null where nvidia-smi does not say.")]
    cuda: Annotated[str, says("What moved the data: cuda-python or torch, with a version.")]
    launch: Annotated[
        Literal["graph", "plain"] | None,
        says("What was timed: launches of a CUDA graph, or plain ones; null where nothing was."),
    ]
    launch_reason: Annotated[str | None, says("Why no graph was timed.")]


class ComputePlanRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which device Core ML prefers, by operation."""

    operations: Annotated[Count, says("Of the program, constants not counted.")]
    preferred: Annotated[
        dict[str, Count], says("CPU, GPU, NeuralEngine: how many operations prefer it. They add up to operations.")
    ]

    def __post_init__(self) -> None:
        if sum(self.preferred.values()) != self.operations:
            raise ValueError(f"Expected counts that add up to the operations, got {self.operations}: {self.preferred}")


class SpecializationRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which Core AI ran a unit, and which compute units it might use: it does not say which it used."""

    runtime: Annotated[
        Literal["system", "package"],
        says("system: Core AI of the operating system. package: the interpreter on the CPU that coreai-core brings for "
             "hosts without it, which is no device."),
    ]  # fmt: skip
    allowed: Annotated[list[str], says("The compute units that it might use, as it calls them, sorted.")]
    preferred: Annotated[str | None, says("The one that it was to prefer, as it calls it; null where none was asked "
                                          "for.")]  # fmt: skip


class ReportRecord(Record, frozen=True, kw_only=True):
    """The report with the raw outputs: `vit-export schema device-report`."""

    path: Annotated[str, says("In evidence/device-reports.")]
    sha256: Annotated[Sha256, says("SHA-256.")]


class DeviceKind(Record, frozen=True, kw_only=True):
    """One kind of golden input on the device."""

    kind: Annotated[Kind, says("docs/golden-set.md.")]
    worst: Annotated[Number, says("Relative error of the worst image.")]
    worst_image: Annotated[str, says("Its name, and the batch size where there are two.")]
    budget: Annotated[float, says("Of this unit, relative error; of an int8 engine, what an answer costs that ignores "
                                  "the image.")]  # fmt: skip
    images: Annotated[Positive, says("How many inputs were run, probes included; one at two batch sizes counts twice.")]


class QualityRecord(Record, frozen=True, kw_only=True):
    """Root mean square of all errors of an int8 engine against the trained form."""

    error: Annotated[Number, says("Relative error.")]
    budget: Annotated[float, says("The quality budget.")]
    passed: Annotated[bool, says("Within it.")]


class PictureRecord(Record, frozen=True, kw_only=True):
    """The kit's picture through the device's own decoder and resizer."""

    route: Annotated[str, says("vision or feature_value.")]
    error: Annotated[Number, says("Relative error.")]
    budget: Annotated[float, says("What was allowed.")]
    passed: Annotated[bool, says("Within it.")]


class DeviceTimingRecord(Record, frozen=True, kw_only=True):
    """Latency on the device. `measured` false: there is the reason, and nothing else."""

    measured: Annotated[bool, says("True where there are samples.")]
    reason: Annotated[str | None, says("Why not; null where measured.")]
    batch: Annotated[IfMeasured[Count], says("Images per run.")] = msgspec.UNSET
    median_ms: Annotated[IfMeasured[float], says("Median, milliseconds per batch.")] = msgspec.UNSET
    p90_ms: Annotated[IfMeasured[float], says("90th percentile.")] = msgspec.UNSET
    p99_ms: Annotated[IfMeasured[float], says("99th percentile.")] = msgspec.UNSET
    iqr_ms: Annotated[IfMeasured[float], says("Interquartile range.")] = msgspec.UNSET
    noisy: Annotated[IfMeasured[bool], says("The quartiles are wider than a tenth of the median.")] = msgspec.UNSET
    warm_up_runs: Annotated[IfMeasured[int], says("Runs before the first sample.")] = msgspec.UNSET
    thermal_before: Annotated[IfMeasured[str | None], says("State before the warm-up, in the system's words.")] = (
        msgspec.UNSET
    )
    thermal_after: Annotated[
        IfMeasured[str | None], says("State after the last sample; null where the system does not say.")
    ] = msgspec.UNSET
    samples_ns: Annotated[IfMeasured[list[Positive]], says("Every sample, nanoseconds per batch.")] = msgspec.UNSET


class DeviceEntry(Record, frozen=True, kw_only=True):
    """What one unit of a device did with the artifact."""

    report: Annotated[ReportRecord, says("The report with the raw outputs.")]
    tool: Annotated[ToolRecord, says("Which half of the kit; the vit-export that made the kit; what ran it.")]
    device: Annotated[DeviceRecord, says("As the system names itself, such as iPhone15,2, or the GPU.")]
    unit: Annotated[str, says(UNIT_SAYS, *Unit, *CoreAiUnit, *EngineUnit)]
    status: Annotated[State, says("Found again from the raw outputs; crashed and refused: there are none.")]
    reason: Annotated[str | None, says("The device's words, where it did not pass; our own, where the probes of an "
                                       "int8 engine decide.")]  # fmt: skip
    evidence: Annotated[
        Evidence | None,
        says("Null where nothing ran; vendor where it was Core AI's interpreter.", "native", "vendor", None),
    ]
    engine: Annotated[EngineRecord | None, says("The engine that ran; null for Core ML, and where none came to "
                                                "run.")] = None  # fmt: skip
    specialization: Annotated[
        SpecializationRecord | None, says("What Core AI was allowed to use; null for other formats.")
    ] = None
    kinds: Annotated[list[DeviceKind], says("Against the float64 reference, probes included.")]
    quality: Annotated[
        QualityRecord | None,
        says("Root mean square of all errors of an int8 engine against the trained form, probes included; null else."),
    ] = None
    jpeg: Annotated[PictureRecord | None, says("The kit's picture through the device's own decoder and resizer; null "
                                               "where it was not tried.")]  # fmt: skip
    timing: Annotated[DeviceTimingRecord, says("On the device, per batch, only of a unit that passed.")]
    compute_plan: Annotated[ComputePlanRecord | None, says("How many operations prefer which device; null where the "
                                                           "system does not say.")]  # fmt: skip


def failure(entry: DeviceEntry) -> str | None:
    """Why the unit did not pass, or the picture that was taken on it; None where it passed."""
    if entry.status != "passed":
        return entry.reason or entry.status
    if entry.jpeg is not None and not entry.jpeg.passed:
        return f"its picture is off by {entry.jpeg.error} of at most {entry.jpeg.budget:.1e}"
    return None


def latest(entries: Iterable[DeviceEntry]) -> tuple[DeviceEntry, ...]:
    """The last entry of each unit of each device: one that was tried again counts as it came out then."""
    return tuple({(entry.device, entry.unit): entry for entry in entries}.values())
