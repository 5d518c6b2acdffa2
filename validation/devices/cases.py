"""Judging what a device computed elsewhere: which inputs it is given, what it may deviate, and what came back.

Core ML runs on Apple's systems only, an engine on the GPU that it was built for. Such a host gets the inputs as raw
bytes and gives the raw logits back; the verdict is found here, from those and the reference that stayed at home.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet
from validation.golden_run import in_batches, shuffled
from validation.inputs.golden_set import Kind
from validation.metrics import Float64, ignoring_error, relative_error, scale_of
from validation.reference.floors import Floors
from validation.reference.reference import Reference

_EVERY, _FIRST = 4, 2  # of each kind's cases the third, the seventh, ... is a probe


@dataclass(frozen=True, slots=True)
class Case:
    """One golden input for the device, in batches of one size. `row` is its place in the golden set.

    A `probe` is sent without its reference: who makes up the other answers has none to start from here.
    """

    name: str
    kind: Kind
    row: int
    probe: bool
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Deviation:
    """One kind of input on one compute unit: the worst of its cases. `worst` is a relative error, NaN or infinite."""

    kind: Kind
    worst: float
    worst_case: str
    budget: float
    cases: int

    @property
    def passed(self) -> bool:
        """A positive condition, so that NaN fails; a precision that overflows here has no budget, and fails too."""
        return self.worst <= self.budget < float("inf")


def cases_of(reference: Reference, *, pixels_only: bool) -> tuple[Case, ...]:
    """The judged ordinary inputs, about a quarter of each kind as probes; with `pixels_only` 8-bit images alone.

    Amplified inputs are judged in float32 arithmetic, which no device promises. Noise does not go through 8 bits.

    Raises:
        BadGoldenSet: none is left.
    """
    seen: dict[Kind, int] = {}
    cases = []
    for row, (member, judged) in enumerate(zip(reference.golden.members, reference.judged, strict=True)):
        if member.kind is Kind.AMPLIFIED or not judged or (pixels_only and not member.has_pixels):
            continue
        index = seen[member.kind] = seen.get(member.kind, -1) + 1
        cases.append(Case(member.name, member.kind, row, probe=index % _EVERY == _FIRST))
    if not cases:
        what = "8-bit images" if pixels_only else "inputs"
        raise BadGoldenSet(
            "the golden set holds nothing that a device could be judged on",
            expected=f"{what} on which the model is well conditioned",
            got=f"{len(reference.golden)} inputs of the kinds {', '.join(reference.golden.unique_kinds)}",
            next_step="export with --golden and a folder of photos",
        )
    return tuple(cases)


def at_batches(cases: Sequence[Case], sizes: Sequence[int]) -> tuple[Case, ...]:
    """Every case at each of these batch sizes; beyond the first the size is part of the name."""
    first, *others = sizes
    return (
        *(replace(case, batch=first) for case in cases),
        *(replace(case, name=f"{case.name} in a batch of {size}", batch=size) for size in others for case in cases),
    )


def runs_of(cases: Sequence[Case]) -> tuple[tuple[int, ...], ...]:
    """What the device runs, as indices into `cases`: batches of distinct inputs in shuffled order, the last filled up.

    The answer to a case is that of its first occurrence.
    """
    runs = []
    for size in dict.fromkeys(case.batch for case in cases):
        own = np.array([index for index, case in enumerate(cases) if case.batch == size])
        order = own[shuffled(len(own), size)]
        runs += [tuple(int(index) for index in rows) for rows in in_batches(order, order, size)]
    return tuple(runs)


def answers_of(reference: Reference) -> Float64:
    """(n, classes): what a device is compared with. Quantized activations leave nothing else than the trained form."""
    return reference.logits if reference.precision.quantized else reference.classifier.executed


def scales_of(reference: Reference) -> Float64:
    """(n,): what errors against `answers_of` are relative to."""
    return scale_of(answers_of(reference), reference.golden.ordinary_rows)


def kinds_of(cases: Sequence[Case]) -> tuple[Kind, ...]:
    """Every kind that occurs, once, in order."""
    return tuple(dict.fromkeys(case.kind for case in cases))


def budget_of(floors: Floors, kinds: Sequence[Kind], factor: float) -> Floors:
    """What a unit may deviate, by kind: `factor` noise floors."""
    return {kind: factor * floors[kind] for kind in kinds}


def costs_of_ignoring(reference: Reference, kinds: Sequence[Kind]) -> Floors:
    """The least that an answer costs on a kind that is the same for every image, a relative error."""
    rows = np.concatenate([reference.rows(kind) for kind in kinds])
    scale = scale_of(reference.logits, reference.golden.ordinary_rows)[rows]
    error = ignoring_error(reference.logits[rows], scale)
    kind_of = np.array([reference.golden.kinds[row] for row in rows])
    return {kind: float(error[kind_of == kind].min()) for kind in kinds}


def errors(logits: NDArray[np.float32], exact: Float64, scale: Float64) -> Float64:
    """(n, classes) twice, (n,) -> (n,) relative errors; NaN or infinite logits stay visible."""
    with np.errstate(all="ignore"):
        return relative_error(logits, exact, scale)


def deviations(cases: Sequence[Case], error: Float64, budget: Mapping[Kind, float]) -> tuple[Deviation, ...]:
    """The worst case of every kind. `error`: (cases,), in the order of `cases`."""
    result = []
    for kind in kinds_of(cases):
        rows = [index for index, case in enumerate(cases) if case.kind is kind]
        # NaN counts as the worst of all.
        worst = max(rows, key=lambda row: float("inf") if np.isnan(error[row]) else error[row])
        result.append(Deviation(kind, float(error[worst]), cases[worst].name, budget[kind], len(rows)))
    return tuple(result)
