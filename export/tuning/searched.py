"""What a search found: every candidate that was tried, and which are worth having."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.exits import Exit, worst
from export.folder.manifest import PASSED
from export.pipeline.finished import Finished
from export.tuning.choice import Point
from export.tuning.request import Candidate, LeftOut, TuneRequest
from validation.timing.latency import Timing


@dataclass(slots=True)
class Tried:
    """A candidate's export and what was found of it. `timing` None: `untimed` says why."""

    candidate: Candidate
    export: Finished
    timing: Timing | None = None
    untimed: str | None = None

    @property
    def name(self) -> str:
        """Of the candidate."""
        return self.candidate.name

    @property
    def passed(self) -> bool:
        """It may ship."""
        return self.export.manifest["status"] in PASSED

    @property
    def verdict(self) -> Mapping[str, Any]:
        """The last stage's, as the manifest has it."""
        found: Mapping[str, Any] = self.export.manifest["stages"][-1]["verdict"]
        return found

    @property
    def failed(self) -> bool:
        """A stage failed, of the file itself: there is nothing to check."""
        return self.export.manifest["status"] == "failed" and self.export.code != Exit.NOT_VERIFIED

    @property
    def drop(self) -> float | None:
        """Top-1 that is lost on the labeled images, percentage points; None: it could not be measured."""
        accuracy = self.export.manifest["accuracy"]
        return None if accuracy is None else float(accuracy["drop_points"])

    @property
    def too_costly(self) -> bool:
        """It was checked, where nothing was found to be within the budget: rejected, or its drop was measured."""
        return self.export.code == Exit.REJECTED or (self.passed and self.drop is not None)

    @property
    def size_bytes(self) -> int:
        """Of the artifact, all files together."""
        return int(self.export.manifest["stages"][-1]["artifact"]["bytes"])

    def point(self, budget: float) -> Point:
        """What it costs."""
        within = self.drop is not None and self.drop <= budget
        median = None if self.timing is None else self.timing.median_ms
        return Point(self.name, self.candidate.target, self.size_bytes, self.drop, within, median)


@dataclass(slots=True)
class Searched:
    """The result. `front`: names of the Pareto front; `best`: by target; `chosen`: the fastest of all that were timed.

    `folders`: where those worth having lie, by name. `seconds`: the duration. `out_of_time`: the limit ended it.
    `cached`: what passed was kept. `earlier_front`: `front/` has what an earlier search found, and nothing of this one.
    """

    request: TuneRequest
    tried: list[Tried] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    front: frozenset[str] = frozenset()
    best: Mapping[str, str] = field(default_factory=dict)
    chosen: str | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    out_of_time: bool = False
    cached: bool = False
    earlier_front: bool = False
    command: tuple[str, ...] = ()

    @property
    def exit_code(self) -> Exit:
        """0 where each target has a candidate within the budget with the evidence that an export requires.

        A target that has none of the precisions asked for is not asked: it was left out, which is said.
        """
        return worst(self._code(target) for target in self.request.possible)

    @property
    def gets_further(self) -> bool:
        """Time was up, and the same command would find an export in the cache that this one had to make.

        What failed or was rejected is not kept, nor what differs from call to call.
        """
        new = (
            each
            for each in self.tried
            if each.passed and each.export.before is None and each.candidate.job.options.reproducible
        )
        return self.out_of_time and self.cached and any(new)

    def _code(self, target: str) -> Exit:
        own = [each for each in self.tried if each.candidate.target == target]
        if target in self.best:
            return next(Exit(each.export.code) for each in own if each.name == self.best[target])
        if own and all(each.failed for each in own):
            return Exit.FAILED
        return Exit.REJECTED if any(each.too_costly for each in own) else Exit.NOT_VERIFIED
