"""`bench --cluster`: one worker makes, judges and times everything, alone on its host while it measures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import VitExportError
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import Weights, find_weights
from export.bench.request import TIMED, BenchRequest
from export.bench.run import Bench, bench
from export.cache.store import default_cache
from export.cluster.abilities import TIMING, makes, native
from export.cluster.crew import Needs
from export.cluster.errand import Errand
from export.cluster.shipment import SEEDED, as_named, moved
from export.cluster.tasks import only_one_measures
from export.folder.atomic import require_writable
from export.request.request import model_names
from export.targets.onnx.calibration import GOLDEN
from export.workers.progress import Progress
from runtimes.artifact import Artifact

if TYPE_CHECKING:
    from export.cluster.client import Workers


def bench_there(
    workers: "Workers", request: BenchRequest, progress: Progress, command: tuple[str, ...] = (), *, cached: bool = True
) -> Bench:
    """As `bench`, on a worker that can time every target; one that can time any where none is named.

    What it made is published here. `cached`: it may use what it kept.

    Raises:
        BadInput: as `bench`; or the output folder cannot be written.
        MissingExtra: the worker lacks what makes the models to compare with.
        Unavailable: no worker can do it, or the scheduler cannot be reached.
    """
    whole = replace(request, targets=request.targets or TIMED).with_defaults()
    for name in model_names(whole.models, whole.image_size):
        whole.export(name, whole.batches[0]).jobs(installed=False)  # what can't be had is refused here
    require_writable(whole.artifacts)
    asked = replace(whole, targets=request.targets, read=_weights(whole, progress))
    photos = () if whole.calibration in (None, GOLDEN) else (Path(str(whole.calibration)),)
    errand = Errand(
        benched,
        (asked, command, cached),
        _needs(request.targets),
        f"the benchmark of {', '.join(whole.models)}",
        photos,
        out=whole.artifacts,
        check=partial(_require_timed, whole.artifacts),
    )
    ((_, found),) = workers.call([errand], progress)
    if isinstance(found, VitExportError):
        raise found
    assert isinstance(found, Bench), "what `benched` gives"
    return found


def benched(
    progress: Progress, paths: Mapping[str, str], request: BenchRequest, command: tuple[str, ...], cached: bool
) -> Bench:
    """On a worker; its paths are those of the client."""
    made = Path(paths[str(request.artifacts)])
    own = replace(request, out=made.parent, calibrate=moved(request.calibrate, paths)).with_defaults()
    cache = default_cache() if cached else None
    found = bench(own, progress, cache, 1, command, only_one_measures())
    if cache is not None:
        cache.prune()
    rows = tuple(
        replace(row, verified=replace(row.verified, artifact=_moved(row.verified.artifact, made, request.artifacts)))
        for row in found.rows
    )
    return replace(found, rows=rows, notes=tuple(as_named(note, paths) for note in found.notes))


def _weights(request: BenchRequest, progress: Progress) -> Mapping[str, Weights]:
    """Read here, once for all workers and batches; a worker draws seeded ones itself."""
    if SEEDED.fullmatch(request.weights) is not None:
        return {}
    read: dict[str, Weights] = {}
    for name in model_names(request.models, request.image_size):
        progress.step(f"{name}: weights")
        reading = Reading(request.ema, request.override)
        read[name] = find_weights(request.weights, name, request.image_size, progress.download, reading)
    return read


def _needs(targets: Sequence[str]) -> tuple[Needs, ...]:
    """Every target that is named; where none is, all that can be timed or else one of them, the last first."""
    choices = (targets,) if targets else (TIMED, *([name] for name in reversed(TIMED)))
    return tuple(Needs(frozenset({TIMING, *map(makes, own), *map(native, own)})) for own in choices)


def _require_timed(artifacts: Path, found: Bench, partial: Path) -> None:
    """What was timed is what came back.

    Raises:
        ArtifactChanged: a file is another.
    """
    for row in found.rows:
        _moved(row.verified.artifact, artifacts, partial).require_unchanged()


def _moved(artifact: Artifact, old: Path, new: Path) -> Artifact:
    """Where it lies when the folder that it is in has another place."""
    return replace(artifact, path=new / artifact.path.relative_to(old))
