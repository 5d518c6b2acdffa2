"""Target `coreai`: an asset for iOS 27 and macOS 27, converted from the captured program and not from ONNX."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from export.targets.apple.options import uncompressed
from export.targets.coreai.options import CoreAiOptions
from export.targets.onnx.target import FP16, FP32
from export.targets.target import Job, Plan, Section, Stage, Target
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format, Interface
from runtimes.precision import Precision

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def _coreai(shop: Workshop, job: Job, made: Precision, _: Artifact | None) -> Artifact:
    from export.targets.coreai.convert import capture_for_coreai, to_coreai

    batch = job.batch
    assert batch is not None, "a request for a dynamic batch is refused before"
    interface = _interface(shop, job, made)
    labeled = bool(interface.labels)

    def captured() -> "ExportedProgram":
        return capture_for_coreai(shop.deploy, batch, labeled=labeled)

    return to_coreai(
        shop.once(("coreai program", batch, labeled), captured),
        shop.deploy.spec,
        shop.path("coreai", job, ".aimodel"),
        batch=batch,
        activations=made.activations,
        interface=interface,
        constants=dict(shop.reference.constants(made, image_input=False)),
        made_by="coreai",
    )


def _interface(shop: Workshop, job: Job, made: Precision) -> Interface:
    """What the job's asset gives, and what it says of itself.

    Raises:
        BadOption: the labels are not this model's.
    """
    from efficientvit.digests import digests
    from export.targets.apple.metadata import describe

    options = CoreAiOptions.of(job)
    labels = options.labels_for(shop.deploy.spec.classes, job.batch, shop.weights.labels)
    constants = digests(shop.reference.constants(made, image_input=False))
    preprocessing = shop.reference.given.preprocessing
    said = dict(describe(options.author, options.license, shop.weights, made, constants, preprocessing))
    del said["version"]  # Core ML's field for it; the asset has it among this project's own
    return Interface(labels=labels, metadata=tuple(sorted(said.items())), dictionary=False)


def _compress(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    from export.targets.coreai.compress import compress

    assert source is not None
    out = shop.path("compress", job, ".aimodel")
    return compress(source, shop.deploy, out, made.weights, _interface(shop, job, made))


def _says(shop: Workshop, job: Job, made: Precision) -> Mapping[str, object]:
    """An asset says what it is."""
    return {"interface": _interface(shop, job, made)}


def _section() -> Section:
    from export.targets.coreai.section import SECTION

    return SECTION


CONVERT = Stage("coreai", _coreai, depends=_says, reads=uncompressed)

COMPRESS = Stage("compress", _compress, depends=_says)


def _compressed(job: Job, plan: Plan) -> Plan:
    if (weights := CoreAiOptions.of(job).weights) is None:
        return plan
    made = plan[-1][1]
    return (*plan, (COMPRESS, Precision(weights, made.activations, made.execution)))


TARGET = Target(
    name="coreai",
    title="Core AI assets",
    format=Format.COREAI,
    suffix=".aimodel",
    precisions={"fp16": ((CONVERT, FP16),), "fp32": ((CONVERT, FP32),)},
    packages=("coreai_torch",),
    extra="coreai",
    distributions=("coreai-core", "coreai-torch"),
    options=CoreAiOptions,
    heads=("fp16", "fp32"),
    instead="an asset takes tensors, and with labels gives the probabilities; a package, of -t coreml, takes images",
    adapt=_compressed,
    section=_section,
)
