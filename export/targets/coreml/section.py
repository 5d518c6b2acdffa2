"""The manifest's section `coreml`."""

from typing import Annotated

from msgspec import Meta

from export.records import Record, says
from export.targets.apple.section import (
    LabelsRecord,
    NeuralEngineRecord,
    engine_record,
    labels_record,
    metadata_of,
)
from export.targets.coreml.options import CoreMlOptions
from export.targets.target import HandedOver, Section


class CoreMlSection(Record, frozen=True, kw_only=True):
    """What a Core ML package takes, gives and says of itself."""

    input: Annotated[
        str, says("8-bit RGB image, normalized by the package, or a normalized tensor.", "image", "tensor")
    ]
    labels: Annotated[LabelsRecord | None, says("The class labels; null where it has none.")]
    ios: Annotated[int, Meta(ge=15, le=18), says("Oldest iOS that takes it.")]
    metadata: Annotated[dict[str, str], says("In the package; keys of ours begin with vit-export.")]
    neural_engine: Annotated[NeuralEngineRecord | None, says("Static readiness; null where no package was made.")]


def _fill(handed: HandedOver) -> CoreMlSection:
    from runtimes.coreml.neural_engine import readiness

    options = CoreMlOptions.of(handed.job)
    ready = None if handed.passed is None else readiness(handed.passed)
    return CoreMlSection(
        input=options.input,
        labels=labels_record(handed),
        ios=options.ios,
        metadata=metadata_of(handed),
        neural_engine=engine_record(ready, options.ane_budget),
    )


SECTION = Section(CoreMlSection, _fill)
