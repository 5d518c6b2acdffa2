"""The manifest's section `coreml`."""

import msgspec

from export.folder.layout import LABELS
from export.targets.coreml.options import CoreMlOptions
from export.targets.target import HandedOver, Section
from runtimes.coreml.neural_engine import readiness
from runtimes.interface import labels_digest


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The classes' names: a file of the export, its digest, and how many there are."""

    path: str
    sha256: str
    count: int


class NeuralEngine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the work is fit for the Neural Engine, by a heuristic. `budget`: the least share that was asked for.

    `violations`: what is not fit, and why.
    """

    share_by_macs: float
    macs: int
    violations: tuple[str, ...]
    budget: float | None
    heuristic: bool = True


class CoreMlSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The package's interface, the oldest iOS, and what it says of itself."""

    input: str
    labels: Labels | None
    ios: int
    metadata: dict[str, str]
    neural_engine: NeuralEngine | None


def _fill(handed: HandedOver) -> CoreMlSection:
    options, artifact = CoreMlOptions.of(handed.job), handed.final
    labels = artifact.interface.labels if artifact else ()
    listed = Labels(f"{handed.place}/{LABELS}", labels_digest(labels), len(labels)) if labels and handed.place else None
    ready = None if handed.passed is None else readiness(handed.passed)
    return CoreMlSection(
        options.input,
        listed,
        options.ios,
        dict(artifact.interface.metadata) if artifact else {},
        None if ready is None else NeuralEngine(ready.share, ready.macs, tuple(ready.violations), options.ane_budget),
    )


SECTION = Section(CoreMlSection, _fill)
