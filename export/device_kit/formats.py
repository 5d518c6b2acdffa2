"""What differs between the device kits of Apple's two formats and of TensorRT engines, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientvit.digests import file_digest
from export.folder.exported import Exported
from runtimes.artifact import Format
from runtimes.tensorrt.api import MODULES
from validation.devices.cases import Case, runs_of
from validation.devices.units import PRODUCTS


@dataclass(frozen=True, slots=True)
class KitForm:
    """One format's kit.

    `artifact`: its place in the data folder; files beside it keep their suffix. `files`: what runs on the device, by
    its name in `on_device/`, and the name that it has in the kit; several folders may become one. `script`: the one
    that runs it on a host with Python. `described`: what kit.json says of this format alone. `batches`: the batch sizes
    at which the device runs it; it is timed at the last. `single`: for artifacts of one image alone. `what` and
    `where`: for sentences.
    """

    what: str
    where: str
    artifact: str
    files: Mapping[str, str]
    script: str
    batches: Callable[[Exported], tuple[int, ...]]
    described: Callable[[Exported, Sequence[Case]], dict[str, Any]]
    single: bool


def _one(_: Exported) -> tuple[int, ...]:
    return (1,)


def _nothing(_: Exported, __: Sequence[Case]) -> dict[str, Any]:
    return {}


def _profile(exported: Exported) -> tuple[int, int, int]:
    assert exported.manifest.tensorrt is not None, "of an engine"
    return exported.manifest.tensorrt.profile


def _engine_batches(exported: Exported) -> tuple[int, ...]:
    """A dynamic engine's smallest and usual batch."""
    if exported.artifact.batch is not None:
        return (exported.artifact.batch,)
    least, usual, _ = _profile(exported)
    return tuple(dict.fromkeys((least, usual)))


def _engine(exported: Exported, cases: Sequence[Case]) -> dict[str, Any]:
    """What to run, by indices into the cases, a batch at a time, and how to build the engine again."""
    artifact = exported.artifact
    built_with = dict(artifact.settings)
    return {
        "runs": [list(run) for run in runs_of(cases)],
        "engine": {
            "sha256": file_digest(artifact.path),
            "built_with": built_with,
            "onnx": "model.onnx",
            "profile": list(_profile(exported)) if artifact.batch is None else None,
            "units": {
                unit: {"product": product, "module": MODULES[product], "shipped": product == built_with["product"]}
                for unit, product in PRODUCTS.items()
            },
        },
        "quality_budget": exported.reference.classifier.quality_budget,
    }


_SOURCES, _TESTS = "swift/Sources/DeviceKit", "swift/Tests/DeviceKitTests"


def _apples(own: str, readme: str, script: str) -> dict[str, str]:
    """Of a kit for Apple's devices: a Python script for the Mac, and a Swift package; `own`: the format's sources."""
    return {
        readme: "README.md",
        script: script,
        "kit_common.py": "kit_common.py",
        "kit_mac.py": "kit_mac.py",
        "swift/shared": _SOURCES,
        f"swift/{own}/Package.swift": "Package.swift",
        f"swift/{own}/DeviceKit": _SOURCES,
        "swift/tests": _TESTS,
        f"swift/{own}/tests": _TESTS,
    }


FORMS: Mapping[Format, KitForm] = {
    Format.COREML: KitForm(
        what="Core ML package",
        where="a Mac or an iPhone",
        artifact="model.mlpackage",
        files=_apples("coreml", "README.md", "check_on_mac.py"),
        script="check_on_mac.py",
        batches=_one,
        described=_nothing,
        single=True,
    ),
    Format.COREAI: KitForm(
        what="Core AI asset",
        where="a Mac or an iPhone",
        artifact="model.aimodel",
        files={
            **_apples("coreai", "README-coreai.md", "check_coreai_on_mac.py"),
            "swift/coreai/device-check": "swift/Sources/device-check",
        },
        script="check_coreai_on_mac.py",
        batches=_one,
        described=_nothing,
        single=True,
    ),
    Format.ENGINE: KitForm(
        what="TensorRT engine",
        where="a host with an NVIDIA GPU",
        artifact="model.engine",
        files={
            "README-gpu.md": "README.md",
            "check_on_gpu.py": "check_on_gpu.py",
            "kit_common.py": "kit_common.py",
            "kit_cuda.py": "kit_cuda.py",
            "kit_engine.py": "kit_engine.py",
        },
        script="check_on_gpu.py",
        batches=_engine_batches,
        described=_engine,
        single=False,
    ),
}


def has_kit(file_format: Format, batch: int | None) -> bool:
    """Apple's devices are given one image at a time."""
    form = FORMS.get(file_format)
    return form is not None and (batch == 1 or not form.single)
