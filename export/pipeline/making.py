"""What a stage makes: taken from the cache, made ahead of its turn, or made now."""

import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from efficientvit.errors import StageFailed, VitExportError
from export.pipeline.stage_cache import StageCache
from export.targets.target import Job, Make, Stage
from export.targets.workshop import Workshop
from export.workers import output_capture
from runtimes.artifact import Artifact
from runtimes.host.shortage import shortage_of
from runtimes.precision import Precision


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage made, and in how many seconds; `cached`: before, and only copied now."""

    artifact: Artifact
    seconds: float
    cached: bool


@dataclass(slots=True)
class Maker:
    """Runs one model's stages; `others`, by name, in place of what they do. What converters print goes to `log`."""

    shop: Workshop
    others: Mapping[str, Make]
    cache: StageCache
    log: Path
    _ahead: dict[tuple[str, int], Made | VitExportError] = field(default_factory=dict)

    def make_ahead(self, job: Job) -> None:
        """Run the first stage before anything is judged: what it made, or raised, waits for its turn."""
        stage, precision = job.plan[0]
        with output_capture.into(self.log):
            try:
                self._ahead[stage.name, id(job)] = self._made(stage, job, precision, None)
            except VitExportError as error:
                self._ahead[stage.name, id(job)] = error

    def make(self, stage: Stage, job: Job, precision: Precision, source: Artifact | None) -> Made:
        """The stage's artifact.

        Raises:
            VitExportError: the stage failed.
        """
        made = self._ahead.pop((stage.name, id(job)), None) or self._made(stage, job, precision, source)
        if isinstance(made, VitExportError):
            raise made
        return made

    def _made(self, stage: Stage, job: Job, precision: Precision, source: Artifact | None) -> Made:
        start = time.perf_counter()
        artifact = self.cache.find(stage, job, precision, source)
        cached = artifact is not None
        if artifact is None:
            with failing_as(stage.name, self.shop.folder):
                artifact = self.others.get(stage.name, stage)(self.shop, job, precision, source)
        return Made(artifact, time.perf_counter() - start, cached)


@contextmanager
def failing_as(stage: str, scratch: Path) -> Iterator[None]:
    """Turn whatever a converter raises into the failure of its stage; the log gets the whole message.

    Raises:
        HostShortage: the host lacks memory or disk space for it.
        StageFailed: the converter raised another error that is not ours.
    """
    try:
        yield
    except VitExportError:
        raise
    except Exception as error:
        traceback.print_exc()
        if (shortage := shortage_of(error)) is not None:
            raise shortage from error
        # The scratch folder is gone when somebody reads this, and its path is private.
        first = str(error).replace(f"{scratch}{os.sep}", "").strip().splitlines()[:1]
        raise StageFailed(
            f"stage '{stage}' failed in its converter",
            got=f"{type(error).__name__}: {first[0] if first else 'no message'}",
            next_step="evidence/log.txt in the folder below holds the whole message",
        ) from error
