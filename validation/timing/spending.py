"""What a verified artifact takes besides its latency, and the verdict when it has to keep to budgets for that."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from runtimes.runtime import Images, Runtime
from validation.budgets import Budgets
from validation.gates import table
from validation.reference.reference import Reference
from validation.timing.alone import run_alone
from validation.timing.latency import Timing, require_timeable
from validation.timing.layers import time_by_module
from validation.trial import Spent, Trial
from validation.verdict import Built, NotRun, Rejected, VerifiedArtifact

PROCESSES = 5


def spending(
    verified: VerifiedArtifact,
    runtime: Runtime,
    timing: Timing,
    images: Images,
    step: Callable[[str], None] = lambda _: None,
    processes: int = PROCESSES,
) -> Spent:
    """Load and run `verified` in processes of their own, one after the other, on the batch that it was timed on.

    Raises:
        ArtifactChanged: the file is not the one that was verified.
        StageFailed: a process failed.
    """
    require_timeable(verified, runtime, timing.plan)
    feed = np.ascontiguousarray(np.take(images, range(timing.plan.batch), axis=0, mode="wrap"))
    found = []
    for number in range(processes):
        step(f"loaded and run alone, {number + 1} of {processes}")
        each = run_alone(verified.artifact, feed, timing.plan.threads)
        if each is None:
            return Spent(timing.samples_ns)
        found.append(each)
    return Spent(timing.samples_ns, tuple(found), time_by_module(verified.artifact, feed, timing.plan.threads))


def held_to(
    budgets: Budgets, verified: VerifiedArtifact, spent: Spent, reference: Reference, runtime: Runtime
) -> VerifiedArtifact | Rejected | NotRun:
    """The verdict with the gates for what was spent, of those that a budget was asked for."""
    alone = [flag for flag in budgets.spends if flag != "--latency-budget"]
    if alone and not spent.alone:
        return not_measured(verified, alone, f"{runtime.name} is not run in a process of its own")
    trial = Trial(verified.artifact, reference, runtime, budgets, spent=spent)
    more = table.results(trial, (gate for gate in table.GATES if gate.spends))
    report = replace(verified.report, gates=(*verified.report.gates, *more))
    return VerifiedArtifact(verified.artifact, report) if report.passed else Rejected(verified.artifact, report)


def not_measured(final: VerifiedArtifact | Built, asked: Sequence[str], why: str) -> NotRun:
    """The verdict where a budget was asked for that only a run in the real runtime can tell. `why`: there was none."""
    return NotRun(
        final.artifact,
        reason=f"{' and '.join(asked)} could not be decided here: {why}",
        remedy="decide it on a host or a device that runs it, or leave it out for this target",
        report=final.report,
        undecided=tuple(asked),
    )
