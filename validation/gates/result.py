"""The gates: interface, constants bit for bit, structure in float32 arithmetic, precision as it ships.

docs/numerics.md says why.

Each gate gives the error of its worst kind of input, measured in units of that kind's own budget: one
chaotic kind must not open the gate for the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import VitExportError
from runtimes.coreml.neural_engine import Readiness
from runtimes.interface import Ports
from runtimes.precision import Dtype
from runtimes.runtime import Answer
from validation.accuracy.top1 import CONFIDENCE, Accuracy
from validation.gates.constants import Audit
from validation.inputs.golden_set import Kind
from validation.int8.layerwise import LayerDeviation
from validation.metrics import (
    Agreement,
    Float64,
    centered_cosine,
    kl_divergence,
    relative_error,
    root_mean_square,
    snr_db,
    top1_agreement,
)
from validation.reference.model import Floors, Reference

STRUCTURE_FACTOR = 4.0
"""Structure and float32: budget over floor. docs/numerics.md holds what healthy runs measured."""

PRECISION_FACTOR = {Dtype.FP32: 4.0, Dtype.FP16: 2.0, Dtype.BF16: 2.0}
"""Budget over floor by the narrower of weights and activations."""


LARGEST_OFF = 1e-3
"""Of a quantized layer's outputs, fed the oracle's inputs: the share that may be more than one unit away."""

LARGEST_UNSEEN = 1 / 4
"""Of an IR's products: the share that may run in another kernel when it is taken apart, and so are not seen."""

LARGEST_ROUNDING = 1e-5
"""Of a floating-point tensor between quantized layers, fed the oracle's inputs: relative to its largest value."""

RANGE_FACTOR = 8.0
"""A calibrated range may be this many times wider or narrower than what the golden images reach."""

LARGEST_HALF = 65504.0
"""float16's largest number; an intermediate result beyond it is infinite on a device that computes in float16."""

_NEAR_OVERFLOW = LARGEST_HALF / 4
_PROBABILITY_TOLERANCE = 2.0**-9  # of float16 probabilities, at most 1
_PROBABILITY_SHARE = 2.0**-4
"""Nor may a probability be off by more than this share of the largest: among many classes all of them are small."""


class Gate(StrEnum):
    """What is compared."""

    INTERFACE = "interface"
    OPERATORS = "operators"
    CONSTANTS = "constants"
    STRUCTURE = "structure"
    RANGES = "ranges"
    EXECUTION = "execution"
    OVERFLOW = "overflow"
    PRECISION = "precision"
    LABELS = "labels"
    QUALITY = "quality"
    ACCURACY = "accuracy"
    READINESS = "readiness"


@dataclass(frozen=True, slots=True)
class KindError:
    """One kind of input under one gate: pooled over its images and over the batch sizes tried."""

    kind: Kind
    worst: float
    worst_image: str
    floor: float
    budget: float
    max_abs: float
    cosine: float
    kl_nats: float

    @property
    def passed(self) -> bool:
        """A positive condition, so that NaN fails. A precision that overflows here has no budget, and fails too."""
        return self.worst <= self.budget < float("inf")

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio of the worst image."""
        return snr_db(self.worst)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The outcome of one gate. For interface, operators, constants and labels `worst` counts faults, the budget is 0.

    `warning`: what a person should know although the gate passed.
    """

    gate: Gate
    worst: float
    budget: float
    floor: float | None
    kind: Kind | None
    detail: str
    kinds: tuple[KindError, ...] = ()
    warning: str | None = None

    @property
    def passed(self) -> bool:
        """Every kind is within its own budget; NaN is not."""
        return self.worst <= self.budget and all(kind.passed for kind in self.kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Logits (n, classes) of all golden images, from running them in batches of `batch`."""

    batch: int
    logits: NDArray[np.float32]


def structure_budget(reference: Reference, kind: Kind) -> float:
    """What float32 arithmetic on the same weights may deviate."""
    return STRUCTURE_FACTOR * reference.structure_floors[kind]


def precision_budget(reference: Reference, kind: Kind) -> float:
    """What the precision that ships may deviate from the float64 reference."""
    precision = reference.precision
    dtypes = (precision.decoded, precision.decoded if precision.quantized else precision.rounding)
    return min(PRECISION_FACTOR[dtype] for dtype in dtypes) * reference.floors[kind]


def ordinary(floors: Floors) -> Floors:
    """Without the amplified inputs, which are judged in float32 arithmetic only."""
    return {kind: floor for kind, floor in floors.items() if kind is not Kind.AMPLIFIED}


def interface_gate(
    found: Ports,
    intended: Ports,
    metadata: Mapping[str, str] | None = None,
    intended_metadata: Mapping[str, str] | None = None,
) -> GateResult:
    """An app feeds inputs and reads outputs by name: names, types, shapes and labels are what the manifest says.

    So is what the file says of itself: it is by this that a package in an app is traced to its weights.
    """
    wrong = [
        f"{what} {', '.join(map(str, got)) or 'none'} in place of {', '.join(map(str, meant))}"
        for what, got, meant in zip(("inputs", "outputs"), found, intended, strict=True)
        if got != meant
    ]
    said, meant_to_say = metadata or {}, intended_metadata or {}
    wrong += [
        f"metadata '{key}' is '{said.get(key, '')}' in place of '{meant_to_say.get(key, '')}'"
        for key in sorted({*said, *meant_to_say})
        if said.get(key, "") != meant_to_say.get(key, "")
    ]
    return GateResult(Gate.INTERFACE, float(len(wrong)), 0.0, None, None, "; ".join(wrong) or "as intended")


def unreadable(error: VitExportError) -> GateResult:
    """A file that contradicts itself or that nothing here can interpret."""
    return GateResult(Gate.INTERFACE, 1.0, 0.0, None, None, "; ".join(line.strip() for line in str(error).splitlines()))


def operators_gate(unexpected: Mapping[str, int], float_layers: Sequence[str] = ()) -> GateResult:
    """Nothing but the operations that this family is lowered to, and quantized where they are to be.

    `float_layers`: those of an int8 file that were left in float32 by intent, which nobody should overlook.
    """
    found = ", ".join(f"{count} x {kind}" for kind, count in sorted(unexpected.items()))
    count, names = len(float_layers), ", ".join(float_layers)
    warning = f"not all of it is int8: {count} layer{'s'[: count > 1]} left in float32: {names}" if count else None
    return GateResult(
        Gate.OPERATORS, float(sum(unexpected.values())), 0.0, None, None, found or "all expected", warning=warning
    )


def constants_gate(audit: Audit) -> GateResult:
    """No constant may differ by a single bit."""
    return GateResult(Gate.CONSTANTS, float(audit.mismatches), 0.0, None, None, str(audit))


def structure_gate(reference: Reference, runs: Sequence[Outputs]) -> GateResult:
    """The artifact's own graph in float32 arithmetic against the deploy form with the same rounded weights.

    Amplified inputs are judged here, and here only.
    """
    kinds = tuple(reference.structure_floors)
    floors, budget = reference.structure_floors, {kind: structure_budget(reference, kind) for kind in kinds}
    return _numeric_gate(Gate.STRUCTURE, reference, reference.structure, runs, floors, budget)


def precision_gate(reference: Reference, runs: Sequence[Outputs], factor: float | None = None) -> GateResult:
    """The arithmetic that ships against the trained form in float64, on ordinary inputs.

    `factor`: budget over floor, where a runtime has one of its own.
    """
    floors = ordinary(reference.floors)
    budget: Floors = {
        kind: precision_budget(reference, kind) if factor is None else factor * floor for kind, floor in floors.items()
    }
    return _numeric_gate(Gate.PRECISION, reference, reference.executed, runs, floors, budget)


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest magnitude that a tensor reached, and the image on which it did."""

    tensor: str
    value: float
    image: str

    def __str__(self) -> str:
        return f"'{self.tensor}' reaches {self.value:.4g} on {self.image}, {self.value / LARGEST_HALF:.2%} of 65504"


def overflow_gate(ordinary: Peak, amplified: Peak | None) -> GateResult:
    """Every intermediate result in float32 arithmetic must fit into float16. Amplified inputs only warn."""
    near = [
        str(peak)
        for peak in (ordinary, amplified)
        if peak is not None and not peak.value <= _NEAR_OVERFLOW and (peak is amplified or peak.value <= LARGEST_HALF)
    ]
    warning = f"near float16's limit: {'; '.join(near)}" if near else None
    return GateResult(Gate.OVERFLOW, ordinary.value, LARGEST_HALF, None, None, str(ordinary), warning=warning)


def execution_gate(
    deviations: Sequence[LayerDeviation], other_kernels: Sequence[str] = (), products: int = 0
) -> GateResult:
    """Each quantized layer on the oracle's own inputs: integers within one unit, but for a share; floats rounded.

    `other_kernels`: products that, taken apart, ran in another kernel than they do in the whole, which was not seen;
    `products`: how many there are in all.
    """

    def over(layer: LayerDeviation) -> float:
        return layer.off / LARGEST_OFF if layer.integer else layer.worst / LARGEST_ROUNDING

    if not deviations:
        return GateResult(Gate.EXECUTION, float("nan"), 1.0, None, None, "no tensor to compare")
    worst = max(deviations, key=over)
    integers = sum(layer.integer for layer in deviations)
    what = f"{worst.off:.2%} over one unit" if worst.integer else f"off by {worst.worst:.1e}"
    detail = f"worst '{worst.tensor}': {what}; {integers} quantized and {len(deviations) - integers} other tensors"
    some = ", ".join(other_kernels[:3]) + (" …" if len(other_kernels) > 3 else "")
    if len(other_kernels) > LARGEST_UNSEEN * products:
        detail = f"{len(other_kernels)} of {products} layers ran in another kernel when taken apart: {some}"
        return GateResult(Gate.EXECUTION, float("nan"), 1.0, None, None, detail)
    warning = f"{len(other_kernels)} layers ran in another kernel when taken apart: {some}" if other_kernels else None
    return GateResult(Gate.EXECUTION, over(worst), 1.0, None, None, detail, warning=warning)


def range_ratio(reached: tuple[float, float]) -> float:
    """How far a calibrated range is from the largest magnitude that is reached: at least 1."""
    calibrated, largest = reached
    if not (0 < calibrated < float("inf") and largest < float("inf")):
        return float("inf")
    return max(largest / calibrated, calibrated / largest) if largest > 0 else 1.0


def ranges_gate(reached: Mapping[str, tuple[float, float]]) -> GateResult:
    """Each activation's calibrated range against what golden images reach there: tensor -> (range, largest magnitude).

    Calibration is on other images, so a range need not be exact; one that is far off clips, or wastes its integers.
    """
    if not reached:
        return GateResult(Gate.RANGES, float("nan"), RANGE_FACTOR, None, None, "no quantized activation")
    worst = max(reached, key=lambda tensor: range_ratio(reached[tensor]))
    calibrated, largest = reached[worst]
    detail = f"'{worst}' is calibrated to {calibrated:.4g} and reaches {largest:.4g}; {len(reached)} tensors"
    return GateResult(Gate.RANGES, range_ratio(reached[worst]), RANGE_FACTOR, None, None, detail)


def labels_gate(labels: Sequence[str], answers: Sequence[tuple[str, Answer, Float64]]) -> GateResult:
    """A classifier's label and probabilities are those of its own logits: (image, answer, (classes,) logits)."""
    wrong = [f"{image}: {fault}" for image, answer, logits in answers if (fault := _misnamed(labels, answer, logits))]
    detail = "; ".join(wrong) or f"label and probabilities follow the logits on {len(answers)} images"
    return GateResult(Gate.LABELS, float(len(wrong)) if answers else float("nan"), 0.0, None, None, detail)


def _misnamed(labels: Sequence[str], answer: Answer, logits: Float64) -> str:
    label, probabilities = answer
    if set(probabilities) != set(labels):
        return f"probabilities of {len(probabilities)} labels in place of {len(labels)}"
    given = np.array([probabilities[name] for name in labels])
    with np.errstate(all="ignore"):
        right = np.exp(logits - logits.max())
        right /= right.sum()
        error = float(np.abs(given - right).max())
    if not error <= min(_PROBABILITY_TOLERANCE, _PROBABILITY_SHARE * float(right.max())):
        return f"a probability is off by {error:.1e}"
    if label not in labels or not given[labels.index(label)] >= given.max():
        return f"'{label}' is not the most probable label"
    return ""


def readiness_gate(readiness: Readiness, budget: float) -> GateResult:
    """The share of the work that is not fit for the Neural Engine, against the share that may be."""
    some = "; ".join(readiness.violations[:3]) + (" …" if len(readiness.violations) > 3 else "")
    detail = (
        f"{readiness.share:.1%} of the work is fit for the Neural Engine, by a heuristic{f': {some}' if some else ''}"
    )
    return GateResult(Gate.READINESS, 1 - readiness.share, 1 - budget, None, None, detail)


def quality_gate(reference: Reference, run: Outputs) -> GateResult:
    """What compressed weights cost: root mean square of the error over all ordinary images, trained form in float64."""
    assert reference.quality_budget is not None
    rows = np.concatenate([reference.rows(kind) for kind in ordinary(reference.floors)] or [np.arange(0)])
    if len(rows) == 0:
        return GateResult(Gate.QUALITY, float("nan"), 0.0, None, None, "no golden image to judge on")
    with np.errstate(all="ignore"):
        error = root_mean_square(relative_error(run.logits[rows], reference.logits[rows]))
    detail = f"costs {error:.3f} of at most {reference.quality_budget:.3f}, {snr_db(error):.1f} dB, {len(rows)} images"
    return GateResult(Gate.QUALITY, error, reference.quality_budget, None, None, detail)


def accuracy_gate(found: Accuracy) -> GateResult:
    """Top-1 on labeled images: rejected where the drop is over its budget beyond what sampling noise explains.

    `worst` is the least drop in percentage points that the images allow for, the lower end of the interval.
    """
    if found.not_finite:
        detail = f"the logits of {found.not_finite} of {found.images} labeled images are no numbers"
        return GateResult(Gate.ACCURACY, float("nan"), found.budget, None, None, detail)
    low, high = found.interval
    detail = (
        f"top-1 {found.artifact_top1 / found.images:.2%} against {found.reference_top1 / found.images:.2%}: "
        f"{found.drop:+.2f} points lost of at most {found.budget:.2f} ({low:+.2f} to {high:+.2f} with {CONFIDENCE} %); "
        f"{len(found.lost)} lost, {found.gained} gained of {found.images} images"
    )
    warning = None
    if low <= found.budget < high:
        over = "more than the budget was lost, within sampling noise" if found.drop > found.budget else "nothing clear"
        warning = f"{over}: these {found.images} images cannot rule out a loss of {high:.2f} points; more of them can"
    return GateResult(Gate.ACCURACY, low, found.budget, None, None, detail, warning=warning)


def error_allowed(reference: Reference) -> float:
    """The relative error that an image's logits may have by the quality or precision gate, of its most lenient kind."""
    if reference.quality_budget is not None:
        return reference.quality_budget
    return max((precision_budget(reference, kind) for kind in ordinary(reference.floors)), default=0.0)


def agreement(reference: Reference, runs: Sequence[Outputs]) -> Agreement:
    """Top-1 of the first run over the judged ordinary images."""
    kinds = tuple(ordinary(reference.floors))
    rows = np.concatenate([reference.rows(kind) for kind in kinds])
    quality = reference.quality_budget
    budget = np.concatenate(
        [
            np.full(len(reference.rows(kind)), precision_budget(reference, kind) if quality is None else quality)
            for kind in kinds
        ]
    )
    return top1_agreement(runs[0].logits[rows], reference.logits[rows], budget)


def _numeric_gate(
    gate: Gate,
    reference: Reference,
    exact: Float64,
    runs: Sequence[Outputs],
    floors: Floors,
    budgets: Floors,
) -> GateResult:
    kinds = tuple(
        _kind_error(kind, reference, exact, runs, floors[kind], budgets[kind])
        for kind in floors
        if len(reference.rows(kind))
    )
    if not kinds:
        return GateResult(gate, float("nan"), 0.0, None, None, "no golden image on which the model is well conditioned")
    # What is no number compares as worst of all.
    worst = max(kinds, key=lambda k: k.worst / k.budget if k.worst < float("inf") > k.budget else float("inf"))
    over = [_over(kind) for kind in kinds if not kind.passed]
    detail = "; ".join(over) or f"worst on {worst.worst_image}, {worst.worst / worst.floor:.2f} x its floor"
    return GateResult(gate, worst.worst, worst.budget, worst.floor, worst.kind, detail, kinds)


def _over(kind: KindError) -> str:
    if not kind.floor < float("inf"):
        return f"{kind.kind}: this precision itself overflows there"
    return f"{kind.kind} {kind.worst:.1e} > {kind.budget:.1e} ({kind.worst_image})"


def _kind_error(
    kind: Kind, reference: Reference, exact: Float64, runs: Sequence[Outputs], floor: float, budget: float
) -> KindError:
    rows = reference.rows(kind)
    right = exact[rows]
    with np.errstate(all="ignore"):  # infinite logits: the figures below become NaN, and NaN fails
        return _worst_of(kind, reference, rows, right, runs, floor, budget)


def _worst_of(
    kind: Kind,
    reference: Reference,
    rows: NDArray[np.intp],
    right: Float64,
    runs: Sequence[Outputs],
    floor: float,
    budget: float,
) -> KindError:
    errors = np.stack([relative_error(run.logits[rows], right) for run in runs])  # (runs, images)
    run, image = np.unravel_index(int(np.where(np.isnan(errors), np.inf, errors).argmax()), errors.shape)
    logits = runs[int(run)].logits[rows]
    return KindError(
        kind=kind,
        worst=float(errors[run, image]),
        worst_image=reference.golden.names[int(rows[image])],
        floor=floor,
        budget=budget,
        max_abs=float(np.abs(logits - right).max()),
        cosine=float(centered_cosine(logits, right).min()),
        kl_nats=float(kl_divergence(logits, right).max()),
    )
