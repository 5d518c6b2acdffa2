"""What the manifest's sections of both formats have in common."""

from typing import Annotated

from export.records import Count, Positive, Record, Sha256, Share, says
from export.targets.target import HandedOver
from runtimes.evaluator.neural_engine import Readiness
from runtimes.interface import labels_digest


class LabelsRecord(Record, frozen=True, kw_only=True):
    """The class labels."""

    path: Annotated[str, says("One a line.")]
    sha256: Annotated[Sha256, says("Over the labels, a line each.")]
    count: Annotated[Positive, says("How many.")]


class NeuralEngineRecord(Record, frozen=True, kw_only=True):
    """Static readiness for the Neural Engine."""

    heuristic: Annotated[bool, says("By Apple's rules and what guides agree on; only a device can tell.")]
    share_by_macs: Annotated[Share, says("Share of the work that satisfies every rule.")]
    macs: Annotated[Count, says("Multiply-accumulates of one run.")]
    violations: Annotated[list[str], says("Operation and rule.")]
    padded_by_macs: Annotated[
        Share, says("Share of the work that gives tensors whose last axis has fewer than 64 bytes and is padded.")
    ] = 0.0
    budget: Annotated[float | None, says("--ane-budget.")]


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
    if not labels or not handed.labels:
        return None
    return LabelsRecord(path=handed.labels, sha256=labels_digest(labels), count=len(labels))


def metadata_of(handed: HandedOver) -> dict[str, str]:
    """What the artifact says of itself."""
    return dict(handed.final.interface.metadata) if handed.final else {}
