"""The content of a device kit: `kit.json` and the raw files that it names, the same bytes for the same folder."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.device_kit.formats import FORMS
from export.folder.exported import Exported
from validation.devices.cases import Case, answers_of, at_batches, cases_of, kinds_of, scales_of
from validation.devices.jpeg import Picture
from validation.devices.units import precision_note, unit_budgets
from validation.inputs.golden_set import Kind
from validation.metrics import scale_of
from validation.timing.latency import TimingPlan

SCHEMA = 1
KIT_JSON = "kit.json"
JPEG, JPEG_LOGITS = "picture.jpg", "picture.logits"
_JPEG_FIELDS = ("source", "width", "height", "resizing", "floor", "wrong")
_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class JpegCase:
    """What kit.json says of the picture, without the budgets, and its two files."""

    entry: Mapping[str, Any]
    jpeg: bytes
    logits: bytes

    @classmethod
    def of(cls, picture: Picture) -> "JpegCase":
        """From a picture that was just measured."""
        entry = {
            "source": picture.source,
            "width": picture.size[0],
            "height": picture.size[1],
            "resizing": picture.budget,
            "floor": picture.floor,
            "wrong": dict(picture.wrong),
        }
        return cls(entry, picture.jpeg, picture.logits.astype(_FLOAT32).tobytes())

    @classmethod
    def kept(cls, entry: Mapping[str, Any], jpeg: bytes, logits: bytes) -> "JpegCase":
        """From a kit that was written before; `entry` is kit.json's."""
        return cls({name: entry[name] for name in _JPEG_FIELDS}, jpeg, logits)


@dataclass(frozen=True, slots=True)
class Content:
    """Everything in a kit's data folder but the artifact: paths in it and bytes. `cases` are in kit.json's order."""

    record: Mapping[str, Any]
    files: Mapping[str, bytes]
    cases: tuple[Case, ...]

    @property
    def kit_json(self) -> bytes:
        """kit.json as it is written; its SHA-256 is the kit's digest."""
        return (json.dumps(self.record, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def content_of(exported: Exported, jpeg: JpegCase | None = None) -> Content:
    """What the kit of this folder holds.

    Raises:
        BadGoldenSet: no golden input is left on which a device could be judged.
    """
    reference, artifact = exported.reference, exported.artifact
    form = FORMS[artifact.format]
    images = cases_of(reference, pixels_only=artifact.interface.image_input)
    cases = at_batches(images, form.batches(exported))
    budgets = unit_budgets(artifact.format, reference, kinds_of(cases))
    scales = scales_of(reference)
    stems = {case.row: f"golden/{number:03}" for number, case in enumerate(images)}
    files = dict(_golden(exported, images, stems))
    if jpeg is not None:
        files |= {JPEG: jpeg.jpeg, JPEG_LOGITS: jpeg.logits}
    record = {
        "schema": SCHEMA,
        "vit_export": exported.manifest.vit_export,
        **_described(exported),
        "cases": [_case(case, stems[case.row], float(scales[case.row])) for case in cases],
        "budgets": {unit: dict(floors) for unit, floors in budgets.items()},
        "note": precision_note(artifact.format, reference),
        "timing": _plan(),
        **form.described(exported, cases),
        "jpeg": None if jpeg is None else _jpeg(jpeg, {unit: arithmetic(floors) for unit, floors in budgets.items()}),
        "files": {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())},
    }
    return Content(record, files, cases)


def arithmetic(budget: Mapping[Kind, float]) -> float:
    """What a unit's arithmetic may cost on a picture: the larger of photos and natural images, a relative error."""
    pictures = [budget[kind] for kind in (Kind.PHOTO, Kind.NATURAL) if kind in budget]
    return max(pictures or budget.values())


def _described(exported: Exported) -> dict[str, Any]:
    """The artifact, its input and its output, for one image."""
    model, golden = exported.manifest.model, exported.reference.golden
    size, classes = golden.preprocessing.image_size, exported.reference.logits.shape[1]
    images = exported.artifact.interface.image_input
    return {
        "package": {
            "path": FORMS[exported.artifact.format].artifact,
            "name": exported.artifact.path.name,
            "sha256": exported.artifact.sha256,
        },
        "model": {
            "name": model.name,
            "image_size": size.to_json(),
            "classes": classes,
            "labels": bool(exported.artifact.interface.labels),
        },
        "input": {
            "name": model.inputs[0].name,
            "kind": "image" if images else "tensor",
            "shape": [size.height, size.width, 3] if images else list(size.nchw(1)),
            "dtype": "uint8" if images else "float32",
            "layout": "HWC, R G B" if images else "NCHW, little-endian",
        },
        "output": {"name": model.outputs[0].name, "shape": [1, classes], "dtype": "float32"},
        "preprocessing": golden.preprocessing.to_json(),
    }


def _case(case: Case, stem: str, scale: float) -> dict[str, Any]:
    """`scale`: what the error is relative to. A probe's answer stays here, and its norm with it."""
    logits, scale_shown = (None, None) if case.probe else (f"{stem}.logits", scale)
    return {"name": case.name, "kind": case.kind, "input": f"{stem}.bin", "logits": logits, "scale": scale_shown}


def _golden(exported: Exported, images: Sequence[Case], stems: Mapping[int, str]) -> Iterator[tuple[str, bytes]]:
    """Paths and contents: every input, and the answers to those that are no probes."""
    answers = answers_of(exported.reference)
    for case in images:
        yield f"{stems[case.row]}.bin", _input(exported, case)
        if not case.probe:
            yield f"{stems[case.row]}.logits", answers[case.row].astype(_FLOAT32).tobytes()


def _input(exported: Exported, case: Case) -> bytes:
    golden = exported.reference.golden
    if exported.artifact.interface.image_input:
        return bytes(golden.members[case.row].data.tobytes())
    return bytes(golden.images[case.row].astype(_FLOAT32).tobytes())


def _jpeg(jpeg: JpegCase, arithmetic_of: Mapping[str, float]) -> dict[str, Any]:
    budgets = {unit: jpeg.entry["resizing"] + cost for unit, cost in arithmetic_of.items()}
    right = np.frombuffer(jpeg.logits, _FLOAT32).astype(np.float64)
    scale = float(scale_of(right[None])[0])
    return {"path": JPEG, "logits": JPEG_LOGITS, "scale": scale, **jpeg.entry, "budgets": budgets}


def _plan() -> dict[str, Any]:
    plan = TimingPlan()
    return {"warm_up_s": plan.warm_up_s, "measure_s": plan.measure_s, "least_samples": plan.least_samples}
