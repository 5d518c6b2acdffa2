"""`vit-export tune`: make and judge every candidate, time what passed in turns, and choose."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.cache.store import Cache
from export.folder import atomic
from export.folder.manifest import PASSED
from export.report.card import Row, card
from export.tuning import choice
from export.tuning.forms import Form, forms_of
from export.tuning.latency import timed
from export.tuning.making import make
from export.tuning.record import TuneRecord
from export.tuning.request import Candidate, LeftOut, TuneRequest, name_of
from export.tuning.searched import Searched, Tried
from export.workers.pool import default_at_once
from export.workers.progress import Progress
from runtimes.host.machine import this_host

if TYPE_CHECKING:
    from export.cluster.client import Workers

FRONT = "front"
_COLUMNS = ("candidate", "ms", "MB", "lost", "folder")


@dataclass(slots=True)
class Tuned(Searched):
    """What was found, as it is shown."""

    def to_json(self) -> dict[str, Any]:
        """What `vit-export tune --json` prints: `tune.json`."""
        return TuneRecord.of(self).to_json()

    def _repr_html_(self) -> str:
        record = self.to_json()
        made = [each for each in record["candidates"] if each["status"] in PASSED]
        rows = [
            Row(
                (
                    each["name"],
                    each["latency"] and _said(each["latency"]),
                    f"{each['bytes'] / 1e6:.2f}",
                    None if each["drop_points"] is None else f"{each['drop_points']:+.2f}",
                    each["folder"],
                ),
                each["within_budget"],
            )
            for each in made
        ]
        verdict = f"fastest: {self.chosen}" if self.chosen else "nothing within the budget was timed here"
        title = f"{self.request.model}, at most {self.request.budget:g} points of top-1 lost"
        title += ", untrained weights" if record["trained"] is False else ""
        others = [f"{each['name']}: {each['reason']}" for each in record["candidates"] if each["reason"]]
        return card(title, verdict, self.exit_code, others, _COLUMNS, rows)


def tune(
    asked: TuneRequest,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cache: Cache | None = None,
    at_once: int | None = None,
    workers: "Workers | None" = None,
) -> Tuned:
    """Search, and put the folders that are worth having below `asked.out`.

    `workers`: of a cluster, which make and judge the candidates in the place of processes; they are timed here.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        Unavailable: what makes a target is not installed, or no worker can make a candidate.
    """
    start = time.monotonic()
    until = None if asked.time_limit_s is None else start + asked.time_limit_s
    first, left_out = asked.candidates(this_host())
    found = Tuned(asked, left_out=left_out, cached=cache is not None, command=command)
    atomic.require_writable(asked.out)

    count = at_once or default_at_once()
    make_round = partial(
        make, progress=progress, cache=cache, at_once=count, command=command, until=until, workers=workers
    )

    def search(candidates: Sequence[Candidate]) -> None:
        made = make_round(candidates)
        for candidate, export in zip(candidates, made, strict=True):
            if export is not None:
                found.tried.append(Tried(candidate, export))
                continue
            found.out_of_time = True
            name, target, precision = candidate.name, candidate.target, candidate.form.precision
            found.left_out.append(LeftOut(name, target, precision, "time was up before it was finished"))

    search(first)
    more = [_fewer_integers(asked, target, form, found.tried) for target, form in _dependent(asked)]
    found.left_out.extend(each for each in more if isinstance(each, LeftOut))
    search([each for each in more if isinstance(each, Candidate)])
    if workers is not None:
        workers.close()  # those of this host would disturb what is timed
    _time(found, progress)
    _choose(found)
    found.folders = _hand_out(found)
    found.seconds = time.monotonic() - start
    if cache is not None:
        cache.prune()
    return found


def _said(latency: Mapping[str, Any]) -> str:
    """Milliseconds, and whether they can be trusted."""
    return f"{latency['median_ms']:.2f}{', noisy' if latency['noisy'] else ''}"


def _dependent(asked: TuneRequest) -> Iterator[tuple[str, Form]]:
    """What depends on what int8 alone has cost."""
    for target in asked.targets:
        for form in forms_of(target):
            wanted = not asked.precisions or form.precision in asked.precisions
            if form.error is not None and wanted and asked.calibrate is not None:
                yield target, form


def _fewer_integers(asked: TuneRequest, target: str, form: Form, tried: Sequence[Tried]) -> Candidate | LeftOut:
    """int8 of which more layers are in floats, so that it costs a share of the error; or why that is not tried."""
    name, share = name_of(target, form), form.error
    assert share is not None
    plain = next((each for each in tried if each.name == name_of(target, Form(form.precision))), None)
    why = "int8 was not made" if plain is None else "int8 itself did not pass"
    if plain is not None and plain.passed:
        if plain.drop is not None and plain.drop > 0:
            quality = share * float(plain.verdict["gates"]["quality"]["worst"])
            return asked.candidate(target, form, quality)
        why = "int8 lost no accuracy on these images: layers in floats would cost time and gain nothing"
    return LeftOut(name, target, form.precision, why)


def _time(found: Tuned, progress: Progress) -> None:
    passed = [each for each in found.tried if each.passed]
    result = timed([each.export for each in passed], found.request.threads, found.request.rounds, progress.step)
    for place, each in enumerate(passed):
        each.timing, each.untimed = result.timings.get(place), result.reasons.get(place)


def _choose(found: Tuned) -> None:
    points = [each.point(found.request.budget) for each in found.tried if each.passed]
    found.front, found.best, found.chosen = choice.front(points), choice.best(points), choice.fastest(points)


def _hand_out(found: Tuned) -> dict[str, Path]:
    """Copies of the exports that are worth having, in one folder that replaces the one of an earlier search whole."""
    out, model = found.request.out, found.request.model
    worth = found.front | set(found.best.values())
    if not worth:  # the last good ones stay, and are said to be of another search
        found.earlier_front = (out / FRONT).is_dir() and any((out / FRONT).iterdir())
        return {}
    with atomic.new_folder(out, FRONT) as partial, atomic.writing(out / FRONT):
        for each in found.tried:
            if each.name in worth:
                shutil.copytree(each.export.folder, partial / f"{model}-{each.name}")
        atomic.publish(partial, out / FRONT)
    return {name: out / FRONT / f"{model}-{name}" for name in worth}
