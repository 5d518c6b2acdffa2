"""Target `coreml`: an ML program in a package, converted from the captured program and not from ONNX."""

from collections.abc import Mapping

from export.targets.apple.options import uncompressed
from export.targets.coreml.options import CoreMlOptions
from export.targets.onnx.target import FP16, FP32
from export.targets.target import Job, Plan, Section, Stage, Target
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision


def _coreml(shop: Workshop, job: Job, made: Precision, _: Artifact | None) -> Artifact:
    from export.targets.coreml.convert import to_coreml
    from export.targets.coreml.program import interface_of, program

    assert job.batch is not None
    interface = interface_of(shop, job, made)
    return to_coreml(
        program(shop, job, labeled=bool(interface.labels)),
        shop.deploy.spec,
        shop.path("coreml", job, ".mlpackage"),
        batch=job.batch,
        activations=made.activations,
        interface=interface,
        preprocessing=shop.reference.given.preprocessing,
        ios=CoreMlOptions.of(job).ios,
        made_by="coreml",
    )


def _compress(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    from export.targets.coreml.compress import compress
    from export.targets.coreml.program import deploy_form, interface_of

    assert source is not None
    out = shop.path("compress", job, ".mlpackage")
    return compress(source, deploy_form(shop, job), out, made.weights, interface_of(shop, job, made))


def _says(shop: Workshop, job: Job, made: Precision) -> Mapping[str, object]:
    """A package says what it is, and takes images as the preprocessing has them."""
    from export.targets.coreml.program import interface_of

    return {"interface": interface_of(shop, job, made), "preprocessing": shop.reference.given.preprocessing}


def _section() -> Section:
    from export.targets.coreml.section import SECTION

    return SECTION


CONVERT = Stage("coreml", _coreml, depends=_says, reads=uncompressed)
COMPRESS = Stage("compress", _compress, depends=_says)


def _compressed(job: Job, plan: Plan) -> Plan:
    if (weights := CoreMlOptions.of(job).weights) is None:
        return plan
    made = plan[-1][1]
    return (*plan, (COMPRESS, Precision(weights, made.activations, made.execution)))


TARGET = Target(
    name="coreml",
    title="Core ML packages",
    format=Format.COREML,
    suffix=".mlpackage",
    precisions={"fp16": ((CONVERT, FP16),), "fp32": ((CONVERT, FP32),)},
    packages=("coremltools",),
    extra="coreml",
    distributions=("coremltools",),
    options=CoreMlOptions,
    heads=("fp16", "fp32"),
    instead="with labels a package gives the label and the probabilities",
    adapt=_compressed,
    section=_section,
)
