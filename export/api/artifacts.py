"""Functions that make artifacts, and that run them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from export.request.options import ExportOptions, OnDisk, command_of
from export.workers.progress import Callback, as_progress

if TYPE_CHECKING:
    from export.commands.export import Exports
    from export.commands.predict import Predictions
    from export.pipeline.finished import Finished


def export(
    models: str | Sequence[str],
    *,
    jobs: int | None = 1,
    no_cache: bool = False,
    cluster: str | None = None,
    tls_ca: OnDisk | None = None,
    tls_cert: OnDisk | None = None,
    tls_key: OnDisk | None = None,
    cluster_wait: float = 60.0,
    command: Sequence[str] | None = None,
    finished: "Callable[[Finished], object]" = lambda _: None,
    progress: Callback = None,
    **options: Unpack[ExportOptions],
) -> "Exports":
    """Export models, check every stage, time what passed: `vit-export export`.

    An artifact that is rejected, or of which a stage fails, is in the result with its verdict; nothing is raised, and
    the others are made.

    Args:
        models: `m0` to `m5`, or `all`.
        jobs: worker processes at a time; None for as many as CPUs and memory allow. With more than one, a script needs
            the guard `if __name__ == "__main__":`, since they import it.
        no_cache: make and check everything anew, and keep nothing.
        cluster: a scheduler's address, or `local:N`: its workers make and check the artifacts (docs/cluster.md).
        tls_ca: with `tls://`, the authority's certificate, PEM.
        tls_cert: this host's certificate.
        tls_key: its private key.
        cluster_wait: seconds to wait for the scheduler, and for a worker that can do a job.
        command: what the manifests record under `command`; by default the command line that asks for the same.
        finished: called with each artifact as soon as it is done.
        progress: told what goes on.
        **options: as `vit-export export --help` has them; those of installed targets too.

    Raises:
        BadInput: options, weights, photos or the output folder cannot be used.
        Unavailable: what makes a target is not installed, the weights cannot be had, or no worker can do a job.
    """
    from functools import partial

    from export.api.workers import workers_of
    from export.commands.export import export as make_all
    from export.pipeline import schedule
    from export.request.keywords import request_of

    with workers_of(cluster, (tls_ca, tls_cert, tls_key), cluster_wait, jobs) as workers:
        make = partial(schedule.export, at_once=jobs) if workers is None else workers.export
        names = (models,) if isinstance(models, str) else tuple(models)
        request = request_of(names, options)
        said = command_of(names, dict(options)) if command is None else command
        return make_all(request, as_progress(progress), said, no_cache=no_cache, make=make, finished=finished)


def predict(artifact: OnDisk, photos: OnDisk | Sequence[OnDisk]) -> "Predictions":
    """The five most probable classes of each photo: `vit-export predict`.

    Args:
        artifact: an exported folder, or the file in it.
        photos: image files.

    Raises:
        BadInput: no folder that an export made, or a file that is no image.
        Refused: the folder holds nothing that may ship, or something in it was changed.
        Unavailable: no runtime for it is installed here.
    """
    from export.commands.predict import Predictor

    named = [photos] if isinstance(photos, str | Path) else photos
    return Predictor.of(Path(artifact)).all_of([Path(photo) for photo in named])
