"""The manifest's section `coreai`."""

from export.folder.sections import CoreAiSection
from export.targets.apple.section import engine_record, labels_record, metadata_of
from export.targets.coreai.options import CoreAiOptions
from export.targets.target import HandedOver, Section
from runtimes.coreai.neural_engine import readiness


def _fill(handed: HandedOver) -> CoreAiSection:
    options = CoreAiOptions.of(handed.job)
    ready = None if handed.passed is None else readiness(handed.passed)
    return CoreAiSection(
        labels=labels_record(handed),
        ios=options.ios,
        metadata=metadata_of(handed),
        neural_engine=engine_record(ready, options.ane_budget),
    )


SECTION = Section(CoreAiSection, _fill)
