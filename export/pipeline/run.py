"""The main job: make what was asked for, check every stage before the next starts, time only what passed."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from efficientvit.weights.source import Weights
from export.cache.store import Cache
from export.folder.atomic import require_writable
from export.pipeline.handover import BeforePublishing, Handover
from export.pipeline.judging import Judging
from export.pipeline.making import Maker
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Prepared, load, measure
from export.pipeline.stage_cache import StageCache, evaluations
from export.progress import Progress
from export.request.request import Request, slug
from export.targets.onnx.calibration import GOLDEN, calibration_images
from export.targets.target import Job, Make
from export.targets.workshop import Workshop
from export.workers.exclusive import Exclusive
from runtimes.host.threads import REFERENCE_THREADS, torch_threads
from validation.reference.memo import remembering


def run(
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    jobs: Sequence[Job] | None = None,
    cache: Cache | None = None,
    exclusive: Exclusive | None = None,
    turn: int | None = None,
    before_publishing: BeforePublishing | None = None,
    prepared: Mapping[str, Prepared | Weights] | None = None,
    stages: Mapping[str, Make] | None = None,
) -> Iterator[Outcome]:
    """Make, check, time and publish each artifact of the request; yields each as soon as it is done.

    A job that fails or is rejected does not keep the others from being made. `jobs`: of the request's, all by default.
    `cache`: what was made and evaluated before is taken from it, and judged again. `exclusive`: in a worker
    process; what is to be timed waits until it is alone. `turn`: of the processes that have the same model, from 0;
    they convert first, and evaluate the reference's parts in different orders. `prepared`: models, by name, that need
    not be prepared here, or their weights, in place of those that the request names. `stages`: by name, in place of
    what the targets' stages do.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        DownloadFailed: `-w pretrained` cannot be had.
    """
    jobs = request.jobs() if jobs is None else jobs
    memo = evaluations(cache)
    require_writable(request.out)
    with torch_threads(REFERENCE_THREADS), tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        for name in dict.fromkeys(job.model for job in jobs):
            own = [job for job in jobs if job.model == name]
            given = (prepared or {}).get(name)
            model, weights = (None, given) if isinstance(given, Weights) else (given, None)
            loaded = model or load(request, name, own, progress, weights=weights)
            shop = Workshop(loaded.weights, loaded.reference, Path(scratch) / name, request.skip_bad_photos)
            folders = [job.calibrate for job in own if job.calibrate not in (None, GOLDEN)]
            calibration = {str(folder): calibration_images(shop, folder) for folder in dict.fromkeys(folders)}
            maker = Maker(shop, stages or {}, StageCache(cache, shop), Path(scratch) / f"{name}.log")
            if turn is not None:
                progress.step(f"{_slug(own[0], loaded.weights)}: {own[0].plan[0][0].name}")
                maker.make_ahead(own[0])
            if model is None:
                progress.step(f"{name}: reference in float64, noise floors, self-check")
                with remembering(memo):
                    model = measure(loaded, own, calibration, proofs_first=bool(turn))
            progress.vacuous(name, model.check.failures)
            judging = Judging(model, maker, progress, request.defaults)
            handover = Handover(request, model, maker.log, progress, command, before_publishing)
            waiting: list[Outcome] = []
            for job in own:
                slug, fallback = _slug(job, model.weights), model.weights.fallback
                outcome = Outcome(job, slug, model.rewrites[job.image_input], fallback=fallback)
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


def _slug(job: Job, weights: Weights) -> str:
    return slug(job, weights.model.spec.image_size, weights.suffix)
