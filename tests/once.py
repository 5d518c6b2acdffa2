"""What runs of the real pipeline on the same model have in common, measured once, for tests that make many of them."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efficientvit.weights.source import find_weights
from export.pipeline import run as pipeline
from runtimes.artifact import Artifact, digest
from runtimes.coreml import evaluated, mlpackage, neural_engine
from validation import self_check
from validation.gates.rewrite import rewrite_gates
from validation.judge import judge
from validation.reference import model as reference
from validation.reference.reference import Reference
from validation.verdict import Verdict

# As they are before a test puts others in their place.
SELF_CHECK, VISIBILITY, REFERENCE_MODEL = self_check.self_check, self_check.visibility, reference.ReferenceModel
LOAD_PROGRAM = mlpackage.load_program

Judge = Callable[..., Verdict]


@contextmanager
def measured_once(of: Callable[[Artifact], bool] = lambda _: True) -> Iterator[pytest.MonkeyPatch]:
    """Weights, reference, self-check, rewrite gates and what is healthy are the same in every run: once will do.

    `of`: whose verdicts may be remembered. Not those of artifacts that a test spoils without touching their files.
    """
    with pytest.MonkeyPatch.context() as patch:
        weights = functools.cache(find_weights)
        patch.setattr(pipeline, "find_weights", lambda option, model, size, _: weights(option, model, size))
        patch.setattr(pipeline, "rewrite_gates", functools.cache(rewrite_gates))
        patch.setattr(pipeline, "judge", _judged_once(of))
        program = _parsed_once()
        for module in (evaluated, mlpackage, neural_engine):
            patch.setattr(module, "load_program", program)
        patch.setattr(self_check, "self_check", _once(SELF_CHECK))
        patch.setattr(self_check, "visibility", functools.cache(VISIBILITY))
        patch.setattr(reference, "ReferenceModel", _once(REFERENCE_MODEL))
        yield patch


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


def _parsed_once() -> Callable[[Path], mlpackage.Program]:
    """The same for a Core ML package: its program is read a dozen times in a run. The last few are kept."""
    known: dict[str, mlpackage.Program] = {}

    def loaded(package: Path) -> mlpackage.Program:
        key = digest(package)
        program = known.pop(key, None) or LOAD_PROGRAM(package)
        known[key] = program
        if len(known) > 4:
            del known[next(iter(known))]
        return program

    return loaded


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember results by the first argument, which is kept alive, and by the precisions asked for."""
    known: dict[tuple[int, str], tuple[Any, Any]] = {}

    def remembered(first: Any, *others: Any) -> Any:
        key = (id(first), str(others[1:]))
        if key not in known:
            known[key] = (first, function(first, *others))
        return known[key][1]

    return remembered
