"""What the manifest's sections of both formats have in common."""

from export.folder.layout import LABELS
from export.folder.sections import LabelsRecord, NeuralEngineRecord
from export.targets.target import HandedOver
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


def labels_record(handed: HandedOver) -> LabelsRecord | None:
    """The labels' file next to the artifact; None where it has none, or lies nowhere."""
    labels = handed.final.interface.labels if handed.final else ()
    if not labels or not handed.place:
        return None
    return LabelsRecord(path=f"{handed.place}/{LABELS}", sha256=labels_digest(labels), count=len(labels))


def metadata_of(handed: HandedOver) -> dict[str, str]:
    """What the artifact says of itself."""
    return dict(handed.final.interface.metadata) if handed.final else {}
