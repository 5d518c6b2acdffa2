"""The manifest's section `coreml`."""

from export.folder.sections import CoreMlSection
from export.targets.apple.section import engine_record, labels_record, metadata_of
from export.targets.coreml.options import CoreMlOptions
from export.targets.target import HandedOver, Section
from runtimes.coreml.neural_engine import readiness


def _fill(handed: HandedOver) -> CoreMlSection:
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
