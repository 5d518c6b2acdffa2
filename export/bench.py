"""`vit-export bench`: models x precisions x runtimes x batches x threads, verified first, then timed in one run."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from efficientvit.errors import BadOption
from efficientvit.preprocess import Preprocessing
from export import pipeline
from export.baselines import BASELINES, STOCK, baselines
from export.exits import Exit, worst
from export.judge_file import judge_file
from export.listener import Progress
from export.manifest import SHIP
from export.outcome import Outcome
from export.request import Request, model_names
from export.step import Step
from export.stock import export_stock
from export.targets import TARGETS
from export.weights import find_weights
from runtimes.base import Array, Evidence
from runtimes.registry import native_runtime
from validation.gates import Gate, GateResult
from validation.golden_synthetic import synthetic
from validation.timing import Timing
from validation.turns import ROUNDS, Contestant, in_turns
from validation.verdict import VerifiedArtifact

TIMED = ("onnx", "openvino")
"""Targets whose real runtime every host has."""


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to compare. `precisions` empty: all that each target has, int8 only with `calibrate`.

    `stock`: timm's own export as well. `paper`: and the models that the paper compares itself with.
    """

    models: tuple[str, ...]
    targets: tuple[str, ...] = TIMED
    precisions: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    weights: str = "auto"
    image_size: int | None = None
    calibrate: str | None = None
    quality_budget: float | None = None
    stock: bool = False
    paper: bool = False
    rounds: int = ROUNDS
    out: Path = Path("bench")


@dataclass(frozen=True, slots=True)
class Row:
    """One verified artifact at one number of threads, and how long a batch takes."""

    model: str
    target: str
    precision: str
    verified: VerifiedArtifact
    timing: Timing

    @property
    def batch(self) -> int:
        """Images at once."""
        return self.timing.plan.batch

    @property
    def threads(self) -> int:
        """Of the runtime."""
        return self.timing.plan.threads

    @property
    def gate(self) -> GateResult:
        """The one that judges what ships: quality where precision was spent on purpose, else precision."""
        found = {gate.gate: gate for gate in self.verified.report.gates}
        return found[Gate.QUALITY] if Gate.QUALITY in found else found[Gate.PRECISION]

    @property
    def images_per_s(self) -> float:
        """At the median."""
        return self.batch / self.timing.median_ms * 1e3


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows that were timed, and what was not and why."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    code: int = 0

    def baseline(self, row: Row) -> Row | None:
        """What a row is compared with: the stock model where there is one, else its own target's float32."""
        same = [
            other
            for other in self.rows
            if (other.model, other.batch, other.threads) == (row.model, row.batch, row.threads)
        ]
        stock = next((other for other in same if other.precision == STOCK), None)
        return stock or next((o for o in same if o.target == row.target and o.precision == "fp32"), None)

    def speedup(self, row: Row) -> float | None:
        """How many times as fast as its baseline."""
        against = self.baseline(row)
        return None if against is None else against.timing.median_ms / row.timing.median_ms


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What passed and is to be timed."""

    model: str
    target: str
    precision: str
    contestant: Contestant


def bench(request: BenchRequest, progress: Progress) -> Bench:
    """Make and verify every combination, then time what passed, in turns.

    Raises:
        BadInput: an unknown model or target, a precision that no target has, weights or photos that cannot be used.
        MissingExtra: `stock` without timm.
    """
    candidates: list[_Candidate] = []
    notes: list[str] = []
    code = Exit.OK
    for model in model_names(request.models, request.image_size):
        for batch in request.batches:
            for outcome in pipeline.run(_request(request, model, batch), progress):
                candidates += _passed(outcome, batch, request.threads, notes)
                code = worst([code, outcome.code(Evidence.NATIVE)])
            if request.stock:
                progress.step(f"{model}: timm's own, batch {batch}")
                candidates += _stock(request, model, batch, notes, progress.step)
    for name in BASELINES if request.paper else ():
        for batch in request.batches:
            candidates += _baselines(request, name, batch, notes, progress.step)
    if not candidates:
        return Bench((), tuple(notes), code)
    timings = in_turns([each.contestant for each in candidates], request.rounds, progress.step)
    rows = tuple(
        Row(each.model, each.target, each.precision, each.contestant.verified, timing)
        for each, timing in zip(candidates, timings, strict=True)
    )
    return Bench(rows, tuple(notes), code)


def _request(request: BenchRequest, model: str, batch: int) -> Request:
    """Every target in every precision: what they share is made once."""
    for target in request.targets:
        if target not in TIMED:
            raise BadOption(
                f"target '{target}' cannot be timed on any host",
                expected=" or ".join(TIMED),
                got=target,
                next_step="Core ML packages and engines are timed on their device, by the kit beside them",
            )
    known = tuple(dict.fromkeys(name for target in request.targets for name in TARGETS[target].precisions))
    for precision in request.precisions:
        if precision not in known:
            raise BadOption(
                f"none of the targets can be made in {precision}",
                expected=", ".join(known),
                got=precision,
                next_step="leave -p out for all that there are",
            )
    wanted = request.precisions or tuple(name for name in known if name != "int8" or request.calibrate is not None)
    return Request(
        (model,),
        request.targets,
        precisions=wanted,
        weights=request.weights,
        image_size=request.image_size,
        batch=batch,
        out=request.out / "artifacts",
        time=False,
        kit=False,
        calibrate=request.calibrate,
        quality_budget=request.quality_budget if "int8" in wanted else None,
    )


def _passed(outcome: Outcome, batch: int, threads: Sequence[int], notes: list[str]) -> Iterator[_Candidate]:
    final = outcome.final
    if not isinstance(final, VerifiedArtifact) or outcome.status != "verified" or outcome.folder is None:
        notes.append(f"{outcome.slug} is {outcome.status}, and was not timed")
        return
    kept = outcome.folder / SHIP / final.artifact.path.name
    verified = VerifiedArtifact(replace(final.artifact, path=kept), final.report)
    job = outcome.job
    for count in threads:
        yield _Candidate(job.model, job.target.name, job.precision, _contestant(verified, batch, count))


def _stock(request: BenchRequest, model: str, batch: int, notes: list[str], step: Step) -> Iterator[_Candidate]:
    weights = find_weights(request.weights, model, request.image_size)
    folder = request.out / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    path = export_stock(weights.model, folder / f"{model}-b{batch}-stock.onnx", batch)
    verdict = judge_file(model, request.weights, path, step=step).found.verdict
    if not isinstance(verdict, VerifiedArtifact):
        notes.append(f"timm's own {model} is not verified, and was not timed")
        return
    for count in request.threads:
        yield _Candidate(model, "onnx", STOCK, _contestant(verdict, batch, count))


def _baselines(request: BenchRequest, name: str, batch: int, notes: list[str], step: Step) -> Iterator[_Candidate]:
    for made in baselines(name, batch, request.targets, request.out / "artifacts", step):
        if not isinstance(made.verdict, VerifiedArtifact):
            reason = getattr(made.verdict, "reason", "")
            notes.append(f"{name}, {made.target} in {made.precision}, batch {batch}, was not timed: {reason}")
            continue
        for count in request.threads:
            yield _Candidate(name, made.target, made.precision, _contestant(made.verdict, batch, count))


def _contestant(verified: VerifiedArtifact, batch: int, threads: int) -> Contestant:
    artifact = verified.artifact
    return Contestant(verified, native_runtime(artifact.format), _feed(artifact.model.image_size, batch), threads)


@functools.cache
def _feed(image_size: int, batch: int) -> Array:
    """One for all that take such batches: they are kept until everything is timed."""
    images = synthetic(Preprocessing(image_size=image_size)).ordinary().images
    return np.ascontiguousarray(np.take(images, range(batch), axis=0, mode="wrap"))
