"""The manifest's section `coreai`."""

from export.folder.layout import LABELS
from export.folder.sections import CoreAiSection, LabelsRecord
from export.targets.coreai.options import CoreAiOptions
from export.targets.target import HandedOver, Section
from runtimes.interface import labels_digest


def _fill(handed: HandedOver) -> CoreAiSection:
    options, artifact = CoreAiOptions.of(handed.job), handed.final
    labels = artifact.interface.labels if artifact else ()
    return CoreAiSection(
        labels=LabelsRecord(path=f"{handed.place}/{LABELS}", sha256=labels_digest(labels), count=len(labels))
        if labels and handed.place
        else None,
        ios=options.ios,
        metadata=dict(artifact.interface.metadata) if artifact else {},
    )


SECTION = Section(CoreAiSection, _fill)
