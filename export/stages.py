"""The stages by name, and what they share: one trace and one simplification serve every target that can use them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from export import precision, simplify, to_coreml, to_openvino, trace
from export.request import Job
from runtimes.artifact import Artifact, Precision

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from efficientvit.model import EfficientViT


@dataclass(slots=True)
class Workshop:
    """One model's deploy form and the folder in which its artifacts are made, before they are handed over."""

    deploy: "EfficientViT"
    folder: Path
    _programs: dict[int | None, "ExportedProgram"] = field(default_factory=dict)

    def program(self, batch: int | None) -> "ExportedProgram":
        """The captured program for this batch; captured once."""
        if batch not in self._programs:
            self._programs[batch] = trace.capture(self.deploy, batch)
        return self._programs[batch]

    def path(self, stage: str, job: Job, suffix: str) -> Path:
        """A new folder for what the stage makes, so that the file can bear the name that it ships under."""
        folder = self.folder / f"{stage}-{job.batch}-{job.opset}-{job.target.name}-{job.precision}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"efficientvit_{job.model}{suffix}"


Stage = Callable[[Workshop, Job, Precision, Artifact | None], Artifact]


def _trace(shop: Workshop, job: Job, _: Precision, __: Artifact | None) -> Artifact:
    out = shop.path("trace", job, ".onnx")
    return trace.trace(shop.program(job.batch), shop.deploy, out, batch=job.batch, opset=job.opset)


def _simplify(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    return simplify.simplify(source, shop.path("simplify", job, ".onnx"))


def _precision(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    return precision.to_fp16(source, shop.path("precision", job, ".onnx"))


def _openvino(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    return to_openvino.to_openvino(source, shop.path("openvino", job, ".xml"), made.weights)


def _coreml(shop: Workshop, job: Job, made: Precision, _: Artifact | None) -> Artifact:
    assert job.batch is not None, "a request for a dynamic batch is refused before"
    out = shop.path("coreml", job, ".mlpackage")
    return to_coreml.to_coreml(shop.program(job.batch), shop.deploy, out, batch=job.batch, activations=made.activations)


STAGES: Mapping[str, Stage] = {
    "trace": _trace,
    "simplify": _simplify,
    "precision": _precision,
    "openvino": _openvino,
    "coreml": _coreml,
}

SHARED = frozenset({"trace", "simplify"})
"""What these make depends on the batch and the opset alone, so every target of a run takes the same file."""
