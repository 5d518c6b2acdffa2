"""`vit-export export`: what a request asks for, and all that came of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from efficientvit.errors import StageFailed
from export.cache.store import default_cache
from export.exits import Exit, worst
from export.folder.findings import unproven_of
from export.folder.nearest import error_and_budget
from export.pipeline import schedule
from export.pipeline.finished import Finished
from export.report.card import Row, card
from export.request.request import Request
from export.workers.progress import Progress


@dataclass(frozen=True, slots=True)
class Exports:
    """The artifacts of one export, in the order of the request."""

    artifacts: tuple[Finished, ...]

    @property
    def exit_code(self) -> Exit:
        """The severest of the artifacts'."""
        return worst(Exit(each.code) for each in self.artifacts)

    def to_json(self) -> dict[str, Any]:
        """What `vit-export export --json` prints."""
        artifacts = [
            {"folder": str(each.folder), "checked_before": each.before, **each.manifest} for each in self.artifacts
        ]
        return {"exit_code": int(self.exit_code), "artifacts": artifacts}

    def _repr_html_(self) -> str:
        count = len(self.artifacts)
        good = sum(each.code == 0 for each in self.artifacts)
        (alone,) = self.artifacts if count == 1 else (None,)
        verdict = f"{good} of {count} artifacts ready" if alone is None else str(alone.manifest["status"])
        title = "export" if alone is None else alone.slug
        said = ((each.slug, why) for each in self.artifacts for why in (reason_of(each), unproven_of(each.manifest)))
        facts = (f"{slug}: {why}" for slug, why in said if why is not None)
        return card(title, verdict, self.exit_code, facts, COLUMNS, [row_of(each) for each in self.artifacts])


COLUMNS = ("artifact", "verdict", "evidence", "error", "budget", "MB", "ms", "folder")


def row_of(each: Finished) -> Row:
    """An artifact under `COLUMNS`."""
    manifest = each.manifest
    last = manifest["stages"][-1]
    made, verdict, timing = last["artifact"], last["verdict"], manifest["timing"]
    cells = (
        each.slug,
        manifest["status"].replace("_", " "),
        verdict["evidence"],
        *error_and_budget(verdict["gates"]),
        f"{made['bytes'] / 1e6:.1f}" if made else None,
        f"{timing['median_ms']:.2f}" if timing["measured"] else None,
        each.folder,
    )
    return Row(cells, each.code == 0)


def reason_of(each: Finished) -> str | None:
    """Why it is not ready, in words; None where it is."""
    if each.code == 0:
        return None
    manifest = each.manifest
    if manifest["failed"] is not None:
        return str(manifest["failed"]["error"])
    last = manifest["stages"][-1]["verdict"]
    if last["reason"] is not None and manifest["status"] != "built":
        return str(last["reason"])
    if manifest["weights"]["fallback"]:
        return "the weights are an untrained fallback: no others were available"
    return f"{last['evidence']} evidence only; {manifest['evidence_required']} is required"


def export(
    request: Request,
    progress: Progress,
    command: Sequence[str] = (),
    *,
    no_cache: bool = False,
    make: "Callable[..., Iterator[Finished]]" = schedule.export,
    finished: Callable[[Finished], object] = lambda _: None,
) -> Exports:
    """Make, check and hand over everything that the request asks for.

    `command`: for the manifests. `make`: in place of `schedule.export`, as it is called. `finished` is called with each
    artifact as soon as it is done.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        Unavailable: what makes a target is not installed, the weights cannot be had, or no worker can do a job.
    """
    asked = request.jobs()  # refuse what cannot be done before anything heavy is imported
    done: list[Finished] = []
    cache = None if no_cache else default_cache()
    for each in make(request, progress, tuple(command), cache=cache):
        finished(each)
        done.append(each)
    if len(done) != len(asked):
        raise StageFailed("not every artifact was accounted for", expected=f"{len(asked)}", got=f"{len(done)}")
    return Exports(tuple(sorted(done, key=lambda each: asked.index(each.job))))
