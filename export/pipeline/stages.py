"""The stages by name, and what they share: one trace and one simplification serve every target that can use them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.weights.source import Weights
from export.request.request import Job
from export.targets.coreml import compress
from export.targets.coreml import convert as to_coreml
from export.targets.coreml.metadata import describe
from export.targets.onnx import float16, quantize, simplify, trace
from export.targets.onnx.calibration import GOLDEN
from export.targets.openvino.convert import to_openvino
from export.targets.tensorrt import build
from runtimes.artifact import Artifact, Interface
from runtimes.precision import Precision
from runtimes.runtime import Array
from validation.inputs.photos import photos
from validation.reference.constants import digests

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from efficientvit.model import EfficientViT
    from validation.reference.model import ReferenceModel


@dataclass(slots=True)
class Workshop:
    """One model and the folder in which its artifacts are made, before they are handed over."""

    weights: Weights
    reference: "ReferenceModel"
    folder: Path
    _programs: dict[int | None, "ExportedProgram"] = field(default_factory=dict)
    _coreml_programs: dict[tuple[int, bool, bool], "ExportedProgram"] = field(default_factory=dict)
    _photos: dict[str, "Array"] = field(default_factory=dict)

    @property
    def deploy(self) -> "EfficientViT":
        """What is exported."""
        return self.reference.deploy

    def program(self, batch: int | None) -> "ExportedProgram":
        """The captured program for this batch, for ONNX and what is made from it; captured once."""
        from efficientvit.deploy.rewrites import tokens_before_channels

        if batch not in self._programs:
            self._programs[batch] = trace.capture(tokens_before_channels(self.deploy), batch)
        return self._programs[batch]

    def coreml_program(self, job: Job, *, labeled: bool) -> "ExportedProgram":
        """The captured program of a Core ML package, without the preprocessing that its image input brings."""
        assert job.batch is not None, "a request for a dynamic batch is refused before"
        key = (job.batch, job.image_input, labeled)
        if key not in self._coreml_programs:
            deploy = self.coreml_deploy(job)
            self._coreml_programs[key] = to_coreml.capture_for_coreml(deploy, job.batch, labeled=labeled)
        return self._coreml_programs[key]

    def coreml_deploy(self, job: Job) -> "EfficientViT":
        """The deploy form that a Core ML package of `job` holds."""
        return self.reference.image_deploy if job.image_input else self.deploy

    def interface(self, job: Job, made: Precision) -> Interface:
        """What the job's artifact takes and gives, and what it says of itself.

        Raises:
            BadOption: the labels are not this model's.
        """
        if job.coreml is None:
            return Interface()
        labels = job.coreml.labels_for(self.deploy.spec.classes, job.batch)
        constants = digests(self.reference.constants(made, job.image_input))
        metadata = describe(job.coreml, self.weights, made, constants, self.reference.given.preprocessing)
        return Interface(job.image_input, labels, metadata)

    def calibration_images(self, job: Job) -> "Array":
        """(n, 3, S, S): the photos of `--calibrate`, or the golden images where it asks for them.

        Raises:
            BadGoldenSet: the folder holds no photo that can be used.
        """
        assert job.calibrate is not None, "int8 without images is refused before"
        if job.calibrate == GOLDEN:
            return self.ordinary_images()
        if job.calibrate not in self._photos:
            self._photos[job.calibrate] = photos(Path(job.calibrate), self.reference.given.preprocessing).images
        return self._photos[job.calibrate]

    def ordinary_images(self) -> "Array":
        """(n, 3, S, S): the golden images that are not amplified."""
        return self.reference.given.ordinary().images

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
    return float16.to_fp16(source, shop.path("precision", job, ".onnx"), shop.ordinary_images())


def _quantize(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    out, images = shop.path("quantize", job, ".onnx"), shop.calibration_images(job)
    return quantize.quantize(source, out, images, made, shop.folder / "ranges")


def _parse(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    return build.parse(source, shop.path("parse", job, ".onnx"))


def _build(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    assert source is not None and job.tensorrt is not None
    return build.build(source, shop.path("build", job, ".engine"), job.tensorrt)


def _openvino(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    return to_openvino(source, shop.path("openvino", job, ".xml"), made)


def _twin(shop: Workshop, job: Job, made: Precision, _: Artifact | None) -> Artifact:
    return _converted(shop, job, made, "twin")


def _coreml(shop: Workshop, job: Job, made: Precision, _: Artifact | None) -> Artifact:
    return _converted(shop, job, made, "coreml")


def _converted(shop: Workshop, job: Job, made: Precision, stage: str) -> Artifact:
    assert job.batch is not None and job.coreml is not None
    interface = shop.interface(job, made)
    return to_coreml.to_coreml(
        shop.coreml_program(job, labeled=bool(interface.labels)),
        shop.deploy.spec,
        shop.path(stage, job, ".mlpackage"),
        batch=job.batch,
        activations=made.activations,
        interface=interface,
        preprocessing=shop.reference.given.preprocessing,
        ios=job.coreml.ios,
        made_by=stage,
    )


def _compress(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    out = shop.path("compress", job, ".mlpackage")
    return compress.compress(source, shop.coreml_deploy(job), out, made.weights, shop.interface(job, made))


STAGES: Mapping[str, Stage] = {
    "trace": _trace,
    "simplify": _simplify,
    "precision": _precision,
    "quantize": _quantize,
    "parse": _parse,
    "build": _build,
    "openvino": _openvino,
    "twin": _twin,
    "coreml": _coreml,
    "compress": _compress,
}

SHARED = frozenset({"trace", "simplify"})
"""What these make depends on the batch and the opset alone, so every target of a run takes the same file."""
