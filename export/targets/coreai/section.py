"""The manifest's section `coreai`."""

from export.folder.layout import LABELS
from export.folder.sections import CoreAiSection, LabelsRecord
from export.targets.coreai.options import CoreAiOptions
from export.targets.coreml.section import engine_record
from export.targets.target import HandedOver, Section
from runtimes.coreai.neural_engine import readiness
from runtimes.interface import labels_digest


def _fill(handed: HandedOver) -> CoreAiSection:
    options, artifact = CoreAiOptions.of(handed.job), handed.final
    labels = artifact.interface.labels if artifact else ()
    ready = None if handed.passed is None else readiness(handed.passed)
    return CoreAiSection(
        labels=LabelsRecord(path=f"{handed.place}/{LABELS}", sha256=labels_digest(labels), count=len(labels))
        if labels and handed.place
        else None,
        ios=options.ios,
        neural_engine=engine_record(ready, options.ane_budget),
        metadata=dict(artifact.interface.metadata) if artifact else {},
    )


SECTION = Section(CoreAiSection, _fill)
