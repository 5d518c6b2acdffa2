"""The manifest's section `coreai`."""

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
from export.targets.coreai.options import CoreAiOptions
from export.targets.target import HandedOver, Section


class CoreAiSection(Record, frozen=True, kw_only=True):
    """What a Core AI asset gives and says of itself."""

    labels: Annotated[LabelsRecord | None, says("The class labels; null where it has none.")]
    ios: Annotated[int, Meta(ge=27), says("Oldest iOS and macOS that take it.")]
    neural_engine: Annotated[NeuralEngineRecord | None, says("Static readiness; null where no asset was made.")]
    metadata: Annotated[dict[str, str], says("In the asset; keys of ours begin with vit-export.")]


def _fill(handed: HandedOver) -> CoreAiSection:
    from runtimes.coreai.neural_engine import readiness

    options = CoreAiOptions.of(handed.job)
    ready = None if handed.passed is None else readiness(handed.passed)
    return CoreAiSection(
        labels=labels_record(handed),
        ios=options.ios,
        metadata=metadata_of(handed),
        neural_engine=engine_record(ready, options.ane_budget),
    )


SECTION = Section(CoreAiSection, _fill)
