"""What runs of the real pipeline on the same model have in common, measured once, for tests that make many of them."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.spec import PUBLISHED_SIZE
from export.pipeline import judging
from export.pipeline.prepare import Loaded, Prepared, load, measure
from export.request.request import Request
from runtimes.artifact import Artifact
from runtimes.host.threads import one_thread
from tests.silent import Silent
from validation import self_check
from validation.inputs.golden_set import GoldenSet
from validation.inputs.synthetic import synthetic
from validation.judge import judge
from validation.reference.reference import Reference
from validation.verdict import Verdict

Judge = Callable[..., Verdict]


class Models:
    """Models prepared for the pipeline: each loaded once, and measured once for each precision that is asked for."""

    def __init__(self, golden: Callable[[Preprocessing], GoldenSet] = synthetic) -> None:
        self._golden = golden
        self._loaded: dict[tuple[Any, ...], Loaded] = {}
        self._measured: dict[tuple[Any, ...], Prepared] = {}

    def of(self, request: Request) -> Prepared:
        """The model of a request for one."""
        jobs = request.jobs()
        (name,) = dict.fromkeys(job.model for job in jobs)
        what = (name, request.weights, request.image_size, request.budgets)
        measured = (*what, frozenset(job.image_input for job in jobs), frozenset(job.plan[-1][1] for job in jobs))
        with one_thread():
            if what not in self._loaded:
                golden = self._golden(Preprocessing(image_size=request.image_size or PUBLISHED_SIZE))
                self._loaded[what] = load(request, name, jobs, Silent(), golden)
            if measured not in self._measured:
                self._measured[measured] = measure(self._loaded[what], jobs)
        return self._measured[measured]


@contextmanager
def measured_once(
    of: Callable[[Artifact], bool] = lambda _: True, golden: Callable[[Preprocessing], GoldenSet] = synthetic
) -> Iterator[Models]:
    """The models, and verdicts on what is healthy, are the same in every run: once will do.

    `of`: whose verdicts may be remembered. Not those of artifacts that a test spoils without touching their files.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "judge", _judged_once(of))
        patch.setattr(self_check, "visibility", functools.cache(self_check.visibility))
        yield Models(golden)


def _judged_once(of: Callable[[Artifact], bool]) -> Judge:
    """A file that was not spoiled is judged once: its verdict is a matter of its bytes and the reference."""
    known: dict[tuple[Any, ...], tuple[Reference, Verdict]] = {}

    def judged(artifact: Artifact, against: Reference, runtime: Any, budgets: Any = None, **options: Any) -> Verdict:
        if not of(artifact):
            return judge(artifact, against, runtime, budgets, **options)
        # Of the same measurements: what calibration found makes another reference of them for each run.
        measured = (id(against.logits), frozenset(against.constants.items()))
        key = (
            artifact.sha256,
            artifact.precision,
            artifact.interface,
            runtime.name,
            str(budgets),
            str(options),
            measured,
        )
        if key not in known:
            known[key] = (against, judge(artifact, against, runtime, budgets, **options))
        return replace(known[key][1], artifact=artifact)

    return judged
