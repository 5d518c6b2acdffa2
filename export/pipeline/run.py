"""The main job: make what was asked for, check every stage before the next starts, time only what passed."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from export.cache.store import Cache
from export.folder.atomic import require_writable
from export.pipeline.handover import BeforePublishing, Handover
from export.pipeline.judging import Judging
from export.pipeline.making import Maker
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Loaded, Prepared, measure
from export.pipeline.stage_cache import StageCache, evaluations
from export.request.request import Request, slug
from export.targets.onnx.calibration import GOLDEN, calibration_images
from export.targets.target import Job, Make
from export.targets.workshop import Workshop
from export.workers.exclusive import Exclusive
from export.workers.progress import Progress
from runtimes.host.threads import one_thread
from validation.reference.memo import remembering


def run(
    loaded: Loaded,
    jobs: Sequence[Job],
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cache: Cache | None = None,
    exclusive: Exclusive | None = None,
    turn: int | None = None,
    before_publishing: BeforePublishing | None = None,
    stages: Mapping[str, Make] | None = None,
) -> Iterator[Outcome]:
    """Make, check, time and publish each artifact of a model; yields each as soon as it is done.

    A job that fails or is rejected does not keep the others from being made. `loaded`: one that is `Prepared` is not
    measured again. `cache`: what was made and evaluated before is taken from it, and judged again. `exclusive`: in a
    worker process; what is to be timed waits until it is alone. `turn`: of the processes that have the same model, from
    0; they convert first, and evaluate the reference's parts in different orders. `stages`: by name, in place of what
    the targets' stages do.

    Raises:
        BadInput: the photos or the output folder cannot be used.
    """
    memo = evaluations(cache)
    require_writable(request.out)
    with one_thread(), tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        name = jobs[0].model
        shop = Workshop(loaded.weights, loaded.reference, Path(scratch) / name, request.skip_bad_photos)
        folders = [job.calibrate for job in jobs if job.calibrate not in (None, GOLDEN)]
        calibration = {str(folder): calibration_images(shop, folder) for folder in dict.fromkeys(folders)}
        maker = Maker(shop, stages or {}, StageCache(cache, shop), Path(scratch) / f"{name}.log")
        if turn is not None:
            progress.step(f"{_slug(jobs[0], loaded)}: {jobs[0].plan[0][0].name}")
            maker.make_ahead(jobs[0])
        if isinstance(loaded, Prepared):
            model = loaded
        else:
            progress.step(f"{name}: reference in float64, noise floors, self-check")
            with remembering(memo):
                model = measure(loaded, jobs, calibration, proofs_first=bool(turn))
        progress.vacuous(name, model.check.failures)
        judging = Judging(model, maker, progress, request.defaults)
        handover = Handover(request, model, maker.log, progress, command, before_publishing)
        waiting: list[Outcome] = []
        for job in jobs:
            fallback = model.weights.fallback
            outcome = Outcome(job, _slug(job, model), model.rewrites[job.image_input], fallback=fallback)
            with remembering(memo):
                judging.run(outcome)
            if exclusive is not None and handover.can_be_timed(outcome):
                waiting.append(outcome)
                continue
            handover.time(outcome)
            with remembering(memo):
                handover.write(outcome)
            yield outcome
        for outcome in waiting:
            with contextlib.nullcontext() if exclusive is None else exclusive.alone():
                handover.time(outcome)
            with remembering(memo):
                handover.write(outcome)
            yield outcome


def _slug(job: Job, model: Loaded) -> str:
    return slug(job, model.weights.model.spec.image_size, model.weights.suffix)
