"""What the stages of a Core ML package have in common: the deploy form, its captured program, its interface."""

from typing import TYPE_CHECKING

from efficientvit.digests import digests
from export.targets.apple.metadata import describe
from export.targets.coreml.convert import capture_for_coreml
from export.targets.coreml.options import CoreMlOptions
from export.targets.target import Job
from export.targets.workshop import Workshop
from runtimes.artifact import Interface
from runtimes.precision import Precision

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from efficientvit.model import EfficientViT


def deploy_form(shop: Workshop, job: Job) -> "EfficientViT":
    """The deploy form that the job's package holds."""
    return shop.reference.image_deploy if job.image_input else shop.deploy


def program(shop: Workshop, job: Job, *, labeled: bool) -> "ExportedProgram":
    """The captured program of a package, without the preprocessing that its image input brings; captured once."""
    batch = job.batch
    assert batch is not None, "a request for a dynamic batch is refused before"
    key = ("coreml program", batch, job.image_input, labeled)
    return shop.once(key, lambda: capture_for_coreml(deploy_form(shop, job), batch, labeled=labeled))


def interface_of(shop: Workshop, job: Job, made: Precision) -> Interface:
    """What the job's package takes and gives, and what it says of itself.

    Raises:
        BadOption: the labels are not this model's.
    """
    options = CoreMlOptions.of(job)
    labels = options.labels_for(shop.deploy.spec.classes, job.batch, shop.weights.labels)
    constants = digests(shop.reference.constants(made, job.image_input))
    metadata = describe(
        options.author, options.license, shop.weights, made, constants, shop.reference.given.preprocessing
    )
    return Interface(job.image_input, labels, metadata)
