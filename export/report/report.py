"""`report.html` beside the manifest: the verdict and what it rests on, in one file that needs no network."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.files import write_text
from efficientvit.images.labels import class_names, most_probable
from export.report import plots
from export.report.templates import template
from runtimes.artifact import Format
from runtimes.registry import row_of
from validation.blame.ranking import LayerError
from validation.gates.identity import unproven
from validation.inputs.golden_set import Kind
from validation.metrics import most_explained
from validation.reference.reference import Reference

REPORT = "report.html"
_PHOTOS, _WORST_LAYERS = 12, 12


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a manifest does not hold: the reference, the artifact's logits (n, classes), its labels and its layers."""

    reference: Reference | None = None
    logits: NDArray[np.float32] | None = None
    labels: tuple[str, ...] = ()
    layers: tuple[LayerError, ...] = ()


def write_report(folder: Path, manifest: dict[str, Any], evidence: Evidence) -> None:
    """Write it into `folder`."""
    write_text(folder / REPORT, render(manifest, evidence))


def render(manifest: dict[str, Any], evidence: Evidence) -> str:
    """The page. Everything that comes from outside (names of photos, labels, messages) is escaped."""
    stages = [stage for stage in manifest["stages"] if stage["verdict"]["gates"]]
    bars = [bar for stage in stages if (bar := _bar(stage)) is not None]
    return template(
        "report/report.html.j2"
    ).render(
        m={"accuracy": None, **manifest},  # one of before there was any
        title=_title(manifest),
        chain=plots.chain([b[0] for b in bars], [b[1] for b in bars], [b[2] for b in bars]) if bars else "",
        layers=_layers(evidence.layers),
        worst=sorted(evidence.layers, key=_over, reverse=True)[:_WORST_LAYERS],
        margins=_margins(evidence),
        class_names=evidence.labels or class_names(manifest["model"]["classes"]),
        photos=_photos(evidence),
        latency=plots.latency([ns / 1e6 for ns in manifest["timing"]["samples_ns"]])
        if manifest["timing"]["measured"]
        else "",
        last=stages[-1] if stages else None,
        unproven=unproven(stages[-1]["verdict"]["gates"], manifest["golden"]["images"]) if stages else None,
    )


def _over(layer: LayerError) -> float:
    return layer.error / layer.floor


def _title(manifest: dict[str, Any]) -> str:
    artifact = manifest["stages"][-1]["artifact"]
    what = f"as {row_of(Format(artifact['format'])).title}" if artifact else "in its deploy form"
    return f"EfficientViT {manifest['model']['name'].upper()} {what}"


def _bar(stage: dict[str, Any]) -> tuple[str, float, float] | None:
    """A stage's numeric gate that is nearest to its budget."""
    found = [
        (gate["worst"], gate["budget"])
        for gate in stage["verdict"]["gates"].values()
        if gate and isinstance(gate["worst"], float) and isinstance(gate["budget"], float) and 0 < gate["budget"] < 10
    ]
    if not found:
        return None
    worst, budget = max(found, key=lambda pair: pair[0] / pair[1])
    return stage["name"], worst, budget


def _layers(layers: tuple[LayerError, ...]) -> str:
    if not layers:
        return ""
    return plots.layers([x.error for x in layers], [x.floor for x in layers], [x.passed for x in layers])


@dataclass(frozen=True, slots=True)
class _Margin:
    image: str
    winner: str
    given: str
    ratio: float
    flipped: bool


@dataclass(frozen=True, slots=True)
class _Margins:
    plot: str
    rows: tuple[_Margin, ...]

    @property
    def outside(self) -> int:
        return sum(row.flipped and row.ratio > 1 for row in self.rows)

    @property
    def inside(self) -> int:
        return sum(row.flipped and row.ratio <= 1 for row in self.rows)


def _margins(evidence: Evidence) -> _Margins | None:
    """Of every ordinary judged image: the reference's lead, over the most that the budget can take from it."""
    reference, logits = evidence.reference, evidence.logits
    if reference is None or logits is None or logits.shape[1] < 2:
        return None
    rows: list[_Margin] = []
    names = evidence.labels or class_names(reference.logits.shape[1])
    for row, kind in enumerate(reference.golden.kinds):
        if kind not in reference.kinds or not reference.judged[row]:
            continue
        right = reference.logits[row]
        first, second = np.argsort(-right)[:2]
        budget = reference.classifier.allowed(kind)
        most = most_explained(right[None], np.array([budget]))[0]
        given = int(np.nanargmax(logits[row])) if np.isfinite(logits[row]).any() else int(second)
        ratio = float((right[first] - right[second]) / most)
        rows.append(_Margin(reference.golden.names[row], names[first], names[given], ratio, given != int(first)))
    if not rows:
        return None
    return _Margins(plots.margins([x.ratio for x in rows], [x.flipped for x in rows]), tuple(rows))


@dataclass(frozen=True, slots=True)
class _Photo:
    name: str
    data: str
    right: tuple[tuple[str, float], ...]
    given: tuple[tuple[str, float], ...]


def _photos(evidence: Evidence) -> tuple[_Photo, ...]:
    """The user's photos, or some of our own images, with the five most probable classes on both sides."""
    reference, logits = evidence.reference, evidence.logits
    if reference is None or logits is None:
        return ()
    members = list(enumerate(reference.golden.members))
    shown = [pair for pair in members if pair[1].kind is Kind.PHOTO] or [
        pair for pair in members if pair[1].kind is Kind.NATURAL and pair[1].has_pixels
    ][:3]
    names = evidence.labels or class_names(reference.logits.shape[1])
    return tuple(
        _Photo(
            member.name,
            _jpeg(member.data),
            most_probable(reference.logits[row], names),
            most_probable(logits[row], names),
        )
        for row, member in shown[:_PHOTOS]
        if np.isfinite(logits[row]).all()
    )


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return base64.b64encode(out.getvalue()).decode("ascii")
