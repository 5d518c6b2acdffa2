"""The manifest's section `coreml`."""

from export.folder.layout import LABELS
from export.folder.sections import CoreMlSection, LabelsRecord, NeuralEngineRecord
from export.targets.coreml.options import CoreMlOptions
from export.targets.target import HandedOver, Section
from runtimes.coreml.neural_engine import readiness
from runtimes.evaluator.neural_engine import Readiness
from runtimes.interface import labels_digest


def engine_record(ready: Readiness | None, budget: float | None) -> NeuralEngineRecord | None:
    """What the rules said, where there was anything to apply them to."""
    if ready is None:
        return None
    return NeuralEngineRecord(
        heuristic=True,
        share_by_macs=ready.share,
        macs=ready.macs,
        violations=list(ready.violations),
        padded_by_macs=ready.padded,
        budget=budget,
    )


def _fill(handed: HandedOver) -> CoreMlSection:
    options, artifact = CoreMlOptions.of(handed.job), handed.final
    labels = artifact.interface.labels if artifact else ()
    ready = None if handed.passed is None else readiness(handed.passed)
    return CoreMlSection(
        input=options.input,
        labels=LabelsRecord(path=f"{handed.place}/{LABELS}", sha256=labels_digest(labels), count=len(labels))
        if labels and handed.place
        else None,
        ios=options.ios,
        metadata=dict(artifact.interface.metadata) if artifact else {},
        neural_engine=engine_record(ready, options.ane_budget),
    )


SECTION = Section(CoreMlSection, _fill)
