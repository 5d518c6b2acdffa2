"""A release as a unit: a recipe of many artifacts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.request.options import OnDisk
from export.workers.progress import Callback, as_progress

if TYPE_CHECKING:
    from export.release.plan import Plan
    from export.release.run import Release, Released


def release(
    recipe: OnDisk,
    *,
    out: OnDisk | None = None,
    junit: OnDisk | None = None,
    jobs: int | None = 1,
    no_cache: bool = False,
    cluster: str | None = None,
    tls_ca: OnDisk | None = None,
    tls_cert: OnDisk | None = None,
    tls_key: OnDisk | None = None,
    cluster_wait: float = 60.0,
    command: Sequence[str] = (),
    finished: "Callable[[Released], object]" = lambda _: None,
    progress: Callback = None,
) -> "Release":
    """Make, check and hand over every artifact of a recipe: `vit-export release`.

    An artifact that is rejected, or that cannot be made, is in the result with its verdict, and the others are made.
    `release.json` and `release.html` are written into the release's folder. What an earlier run has finished is found
    in the cache.

    Args:
        recipe: a `release.toml`.
        out: the release's folder, in the place of the recipe's.
        junit: where to write the verdicts as JUnit XML.
        jobs: worker processes at a time; None for what the recipe says, else as many as CPUs and memory allow.
        no_cache: make and check everything anew, and keep nothing.
        cluster: a scheduler's address, or `local:N`: its workers make and check all artifacts (docs/cluster.md).
        tls_ca: with `tls://`, the authority's certificate, PEM.
        tls_cert: this host's certificate.
        tls_key: its private key.
        cluster_wait: seconds to wait for the scheduler, and for a worker that can make an artifact.
        command: what the manifests and `release.json` record under `command`.
        finished: called with each artifact as soon as it is done.
        progress: told what goes on.

    Raises:
        BadRecipe: the recipe cannot be used.
        BadOutput: a folder cannot be written.
    """
    from export.api.workers import workers_of
    from export.commands import junit as xml
    from export.release.junit import of_release
    from export.release.page import write_release
    from export.release.run import release as make

    told = as_progress(progress)
    with workers_of(cluster, (tls_ca, tls_cert, tls_key), cluster_wait, jobs) as workers:
        planned = plan(recipe, out=out)
        if junit is not None:
            xml.prepare(Path(junit))
        found = make(planned, told, command, no_cache=no_cache, jobs=jobs, workers=workers, finished=finished)
    write_release(found)
    if junit is not None:
        xml.write(Path(junit), of_release(found))
    return found


def plan(recipe: OnDisk, *, out: OnDisk | None = None) -> "Plan":
    """What a recipe asks for, and what evidence this host can give: `vit-export release --dry-run`. Makes nothing.

    Args:
        recipe: a `release.toml`.
        out: the release's folder, in the place of the recipe's.

    Raises:
        BadRecipe: the recipe cannot be used.
    """
    from export.release.plan import plan as look

    return look(Path(recipe), None if out is None else Path(out))
