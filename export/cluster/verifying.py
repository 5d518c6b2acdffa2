"""`verify --cluster`: a folder is judged by a worker that runs what ships, natively where there is one."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientvit.errors import StageFailed, VitExportError
from efficientvit.weights.source import Weights
from export.cluster.abilities import makes, native
from export.cluster.client import Workers
from export.cluster.crew import Needs
from export.cluster.errand import Errand
from export.cluster.returned import NotWhatItSays
from export.commands.recompute import weights_of
from export.commands.verify import Verification, verify
from export.folder.exported import Exported, open_exported
from export.request.evaluation import Evaluation
from export.targets.registry import TARGETS
from export.workers.progress import Progress
from runtimes.runtime import Evidence
from validation.budgets import Budgets


@dataclass(frozen=True, slots=True)
class Asked:
    """What `commands.verify.verify` is asked for, under its names."""

    folder: Path
    weights: str | None
    budgets: Budgets
    asked: Evaluation | None
    labels: str | None
    skip_bad: bool
    required: Evidence

    @property
    def files(self) -> Iterator[Path]:
        """That a worker needs, besides the weights."""
        yield self.folder
        if self.asked is not None:
            yield self.asked.folder
        if self.labels is not None and Path(self.labels).is_file():
            yield Path(self.labels)


def verify_there(workers: Workers, asked: Asked, progress: Progress) -> Verification:
    """The verdict of one worker on the folder. It is bound to the artifact here by its digest.

    Raises:
        BadInput, Refused: as `verify`, whoever says so; or the verdict is on another file.
        Unavailable: no worker can run the file, or the scheduler cannot be reached.
    """
    exported = open_exported(asked.folder)
    weights = None
    if asked.weights is not None or asked.asked is not None:
        progress.step("weights")
        weights = weights_of(exported.folder, exported.manifest, asked.weights)
    target = _target(exported)
    needs = Needs(frozenset({native(target)})), Needs(frozenset({makes(target)}))
    labeled = asked.asked is not None
    what = f"the verification of {asked.folder}"
    errand = Errand(verified, (asked, weights), needs, what, tuple(asked.files), labeled=labeled)
    ((_, found),) = workers.call([errand], progress)
    if isinstance(found, VitExportError):
        raise found
    assert isinstance(found, Verification), "what `verified` gives"
    if (judged := found.verdict.artifact.sha256) != exported.artifact.sha256:
        raise NotWhatItSays(
            f"a worker judged another file than the one in {asked.folder}",
            expected=f"sha256 {exported.artifact.sha256}",
            got=f"sha256 {judged}",
            next_step="look after that worker's memory, disk and network",
        )
    verdict: Any = replace(found.verdict, artifact=exported.artifact)  # which lies here
    return replace(found, folder=asked.folder, verdict=verdict)


def verified(progress: Progress, paths: Mapping[str, str], asked: Asked, weights: Weights | None) -> Verification:
    """On a worker. `weights`: as the client has read them."""
    evaluation = asked.asked
    return verify(
        Path(paths[str(asked.folder)]),
        asked.weights,
        asked.budgets,
        progress.step,
        read=weights,
        asked=None if evaluation is None else Evaluation(Path(paths[str(evaluation.folder)])),
        labels=None if asked.labels is None else paths.get(str(Path(asked.labels)), asked.labels),
        skip_bad=asked.skip_bad,
        required=asked.required,
    )


def _target(exported: Exported) -> str:
    """The first that makes files of this format."""
    for name in TARGETS:
        with contextlib.suppress(StageFailed):  # of an installed package, and broken
            if TARGETS[name].format == exported.artifact.format:
                return name
    return str(exported.artifact.format)
