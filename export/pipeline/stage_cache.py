"""What the stages made before, by what it was made of. It is judged again every time: only the making is saved."""

import dataclasses
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from efficientvit.weights.source import state_digest
from export.cache.fingerprint import key_of
from export.cache.store import Cache
from export.records import plain
from export.targets.target import Job, Stage
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision
from runtimes.registry import known_format

if TYPE_CHECKING:
    from export.cache.store import Entry

_STAGE, _VALUES = "stage", "evaluation"
_ARRAY = "values.npy"


class StageCache:
    """One model's. `cache` None: nothing is found, nothing kept."""

    def __init__(self, cache: Cache | None, shop: Workshop) -> None:
        self._cache = cache
        self._shop = shop
        self._deploy = "" if cache is None else f"{shop.deploy.spec} {state_digest(shop.deploy)}"

    def find(self, stage: Stage, job: Job, made: Precision, source: Artifact | None) -> Artifact | None:
        """A copy of what the stage made of the same, in the workshop's folder."""
        if self._cache is None or not job.options.reproducible:
            return None
        folder = self._shop.path(stage.name, job, "").parent
        entry = self._cache.fetch(_STAGE, self._key(stage, job, made, source), folder)
        if entry is None:
            shutil.rmtree(folder)
            return None
        return _artifact(entry, self._shop.path(stage.name, job, str(entry.record["suffix"])), self._shop, source)

    def keep(self, stage: Stage, job: Job, made: Precision, source: Artifact | None, artifact: Artifact) -> None:
        """Keep what it made, once it was judged and not rejected."""
        if self._cache is None or not job.options.reproducible:
            return
        folder = artifact.path.parent
        self._cache.keep(
            _STAGE,
            self._key(stage, job, made, source),
            f"{job.model} {stage.name}{'' if stage.shared else f', {job.target.name} {job.precision}'}",
            _record(artifact),
            lambda into: shutil.copytree(folder, into, dirs_exist_ok=True),
        )

    def _key(self, stage: Stage, job: Job, made: Precision, source: Artifact | None) -> str:
        own: dict[str, object] = {"batch": job.batch, "opset": job.opset}
        if not stage.shared:
            own["job"] = job if stage.reads is None else stage.reads(job)
        if stage.depends is not None:
            own |= stage.depends(self._shop, job, made)
        return key_of(stage=stage.name, made=made, source=source and source.sha256, deploy=self._deploy, **own)


def evaluations(cache: Cache | None) -> "Evaluations | None":
    """Where PyTorch's evaluations are kept, if anything is."""
    return None if cache is None else Evaluations(cache)


class Evaluations:
    """`validation.reference.memo.Memo` in a cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def find(self, key: str) -> NDArray[np.float64] | None:
        """The array that was kept, or None."""
        with tempfile.TemporaryDirectory() as folder:
            entry = self._cache.fetch(_VALUES, key_of(evaluation=key), Path(folder))
            return None if entry is None else np.load(Path(folder) / _ARRAY, allow_pickle=False)

    def keep(self, key: str, values: NDArray[np.float64]) -> None:
        """Keep it."""
        self._cache.keep(
            _VALUES,
            key_of(evaluation=key),
            f"PyTorch's answers {values.shape}",
            {},
            lambda into: np.save(into / _ARRAY, values, allow_pickle=False),
        )

    def alone(self, key: str) -> AbstractContextManager[None]:
        """Where two processes need the same array, one computes it and the other waits."""
        return self._cache.locked(key)


_OWN = ("path", "model", "source_sha256")
"""What a copy does not have of the artifact that was kept."""


def _record(artifact: Artifact) -> dict[str, Any]:
    names = (each.name for each in dataclasses.fields(artifact) if each.name not in _OWN)
    kept: dict[str, Any] = plain({name: getattr(artifact, name) for name in names})
    return {"suffix": artifact.path.suffix, **kept}


def _artifact(entry: "Entry", path: Path, shop: Workshop, source: Artifact | None) -> Artifact:
    own = {"path": path, "model": shop.deploy.spec, "source_sha256": source and source.sha256}
    return msgspec.convert({**entry.record, **own}, Artifact, from_attributes=True, dec_hook=_read)


def _read(kind: type, value: Any) -> Any:
    """What msgspec does not know."""
    return known_format(value) if kind is Format else value
