"""One unit's report, judged again from its raw outputs: what does not follow from them is refused."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import Refused
from export.device_kit.content import JPEG_LOGITS, Content
from export.device_kit.device_report import RAN, SHIPPED, JpegReport, UnitReport
from export.folder.device_entry import State
from export.folder.exported import Exported
from runtimes.artifact import Format
from validation.devices.cases import Deviation, answers_of, deviations, errors, scales_of
from validation.devices.units import CoreAiUnit
from validation.inputs.golden_set import Kind
from validation.metrics import Float64, root_mean_square

_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """Root mean square of all errors of a quantized artifact, probes included."""

    error: float
    budget: float

    @property
    def passed(self) -> bool:
        """A positive condition, so that NaN fails."""
        return self.error <= self.budget < float("inf")


@dataclass(frozen=True, slots=True)
class PictureVerdict(QualityVerdict):
    """The picture's relative error, through the device's own decoder and resizer."""

    route: str


@dataclass(frozen=True, slots=True)
class UnitVerdict:
    """What is to be recorded. `kinds`: the worst of every kind, probes included; empty where nothing ran."""

    status: State
    reason: str | None
    kinds: tuple[Deviation, ...] = ()
    quality: QualityVerdict | None = None
    picture: PictureVerdict | None = None


def judge_unit(unit: UnitReport, exported: Exported, content: Content) -> UnitVerdict:
    """What the unit's outputs come to against the float64 reference.

    Raises:
        Refused: the report contradicts itself or the kit: cases that are not the kit's, a claim that its outputs do
            not bear out, answers copied from the kit, probes over the budget, a timing where there can be none, an
            engine that is not the kit's, or compute units that are not those of its options.
    """
    if unit.status not in RAN:
        if unit.cases or unit.jpeg or unit.timing or unit.compute_plan or unit.specialization:
            _refuse(unit, "has results all the same", f"none of a unit that {unit.status}", "results")
        return UnitVerdict(unit.status, unit.reason)
    _require_engine(unit, exported, content)
    _require_specialization(unit, exported)
    logits = _matched(unit, exported, content)
    _require_claim(unit, logits, exported, content)
    rows = [case.row for case in content.cases]
    error = errors(logits, answers_of(exported.reference)[rows], scales_of(exported.reference)[rows])
    kinds = deviations(content.cases, error, _budget(unit, content))
    over = [kind for kind in kinds if not kind.passed]
    if unit.status == "passed" and over:
        worst = over[0]
        _refuse(
            unit,
            "claims to have passed, and is over its budget on inputs whose answers the kit does not hold",
            f"{worst.kind} within {worst.budget:.2e}",
            f"{worst.worst:.2e} on {worst.worst_case}",
        )
    _require_timing(unit, content)
    picture = _picture(unit, unit.jpeg, content)
    quality = _quality(error, content)
    if quality is not None and not quality.passed and unit.status == "passed":
        # No lie: the device pools the errors that it can know, and all of them together may come to a little more.
        reason = f"{quality.error:.2e} > {quality.budget:.2e} over all inputs, those included whose answers stayed here"
        return UnitVerdict("rejected", reason, kinds, quality, picture)
    return UnitVerdict(unit.status, unit.reason, kinds, quality, picture)


def _quality(error: Float64, content: Content) -> QualityVerdict | None:
    budget = content.record.get("quality_budget")
    return None if budget is None else QualityVerdict(root_mean_square(error), float(budget))


def _require_engine(unit: UnitReport, exported: Exported, content: Content) -> None:
    """An engine's outputs are worth what is known of the engine; Core ML has none."""
    if exported.artifact.format != Format.ENGINE:
        if unit.engine is not None:
            _refuse(unit, "speaks of an engine, and the kit has none", "no engine", unit.engine.product)
        return
    known = content.record["engine"]
    own = known["units"][unit.unit]
    if unit.engine is None:
        _refuse(unit, "does not say which engine ran", own["product"], "none")
    if unit.engine.product != own["product"]:
        _refuse(unit, "ran another product's engine", own["product"], unit.engine.product)
    if unit.engine.origin == SHIPPED and (not own["shipped"] or unit.engine.sha256 != known["sha256"]):
        expected = known["sha256"] if own["shipped"] else "one that was built there: the shipped one is not its"
        _refuse(unit, "claims to have run the shipped engine, and ran another", expected, unit.engine.sha256)
    if unit.timing is not None and unit.engine.launch is None:
        _refuse(unit, "was timed and does not say how it was launched", "graph or plain", "none")


def _require_specialization(unit: UnitReport, exported: Exported) -> None:
    """Core AI does not say where it ran. What it was allowed to use is all that there is, and has to fit the unit."""
    found = unit.specialization
    if exported.artifact.format != Format.COREAI:
        if found is not None:
            _refuse(unit, "speaks of Core AI, and the kit has no asset", "no specialization", found.runtime)
        return
    if found is None:
        _refuse(unit, "does not say which Core AI ran", "the system's or the package's", "none")
    only = unit.unit == CoreAiUnit.CPU_ONLY
    if found.runtime == "package" and (not only or unit.timing is not None):
        got = f"{unit.unit}, {'not ' if unit.timing is None else ''}timed"
        _refuse(
            unit, "is more than coreai-core's interpreter on the CPU can do", f"{CoreAiUnit.CPU_ONLY}, not timed", got
        )
    preferring = unit.unit in (CoreAiUnit.GPU, CoreAiUnit.NEURAL_ENGINE)
    if len(found.allowed) != 1 if only else preferring is (found.preferred is None):
        expected = "one that is allowed" if only else f"{'one' if preferring else 'none'} that is preferred"
        got = f"{', '.join(found.allowed) or 'none'} allowed, {found.preferred or 'none'} preferred"
        _refuse(unit, "ran under other options than its own", expected, got)


def _matched(unit: UnitReport, exported: Exported, content: Content) -> NDArray[np.float32]:
    """(cases, classes), in the kit's order."""
    names = [case.name for case in unit.cases]
    if sorted(names) != sorted(case.name for case in content.cases):
        known = {case.name for case in content.cases}
        wrong = sorted({*(known ^ set(names)), *(name for name in names if names.count(name) > 1)})
        _refuse(unit, "has other cases than the kit", "each of the kit's, once", f"differences in {', '.join(wrong)}")
    classes = exported.reference.logits.shape[1]
    if wrong := sorted(case.name for case in unit.cases if len(case.values) != classes):
        _refuse(unit, "has logits of the wrong length", f"{classes} numbers", f"others in {', '.join(wrong)}")
    by_name = {case.name: case.values for case in unit.cases}
    return np.stack([by_name[case.name] for case in content.cases])


def _require_claim(unit: UnitReport, logits: NDArray[np.float32], exported: Exported, content: Content) -> None:
    """The status is what an honest kit says, which knows the shown cases' references in float32, and no probe's."""
    shown = [index for index, case in enumerate(content.cases) if not case.probe]
    probes = [index for index, case in enumerate(content.cases) if case.probe]
    rows = [content.cases[index].row for index in shown]
    right = answers_of(exported.reference)[rows].astype(np.float32)
    if np.array_equal(logits[shown], right):
        _refuse(unit, "gives the kit's own reference as its outputs", "what the device computed", "the same bits")
    budget = _budget(unit, content)
    allowed = np.array([budget[content.cases[index].kind] for index in shown])
    error = errors(logits[shown], right.astype(np.float64), scales_of(exported.reference)[rows])
    within = bool((error <= allowed).all())
    quality = _quality(error, content)
    within = within and (quality is None or quality.passed)
    found = "passed" if within and np.isfinite(logits[probes]).all() else "rejected"
    if found != unit.status:
        _refuse(unit, "claims what its own outputs do not bear out", found, unit.status)


def _require_timing(unit: UnitReport, content: Content) -> None:
    if (timing := unit.timing) is None:
        return
    if unit.status != "passed":
        _refuse(unit, "was timed without having passed", "no timing", f"{len(timing.samples_ns)} samples")
    least = content.record["timing"]["least_samples"]
    if len(timing.samples_ns) < least or min(timing.samples_ns) <= 0 or timing.warm_up_runs < 1:
        smallest = min(timing.samples_ns, default=0)
        _refuse(
            unit,
            "has a timing that no kit measures",
            f"at least {least} samples above 0 ns after a warm-up",
            f"{len(timing.samples_ns)} samples, the smallest {smallest} ns, {timing.warm_up_runs} runs before them",
        )


def _picture(unit: UnitReport, reported: JpegReport | None, content: Content) -> PictureVerdict | None:
    if reported is None:
        return None
    entry = content.record["jpeg"]
    if entry is None:
        _refuse(unit, "has a picture, and the kit has none", "no picture", reported.route)
    right = np.frombuffer(content.files[JPEG_LOGITS], _FLOAT32).astype(np.float64)
    if len(reported.values) != len(right):
        _refuse(unit, "has a picture of the wrong length", f"{len(right)} logits", str(len(reported.values)))
    error = float(errors(reported.values[None], right[None], np.array([entry["scale"]]))[0])
    verdict = PictureVerdict(error, float(entry["budgets"][unit.unit]), reported.route)
    if verdict.passed is not (reported.status == "passed"):
        found = "passed" if verdict.passed else "rejected"
        _refuse(unit, "claims of its picture what the logits do not bear out", found, reported.status)
    return verdict


def _budget(unit: UnitReport, content: Content) -> dict[Kind, float]:
    """The folder's own, never the report's: the content was made of the reference a moment ago."""
    return {Kind(kind): float(budget) for kind, budget in content.record["budgets"][unit.unit].items()}


def _refuse(unit: UnitReport, what: str, expected: str, got: str) -> NoReturn:
    raise Refused(
        f"the report is not to be believed: {unit.unit} {what}",
        expected=expected,
        got=got,
        next_step="run the kit again, and attach the report as it was written",
    )
