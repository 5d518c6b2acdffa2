"""What a benchmark times: ours, timm's own export, PyTorch itself and the paper's baselines, each judged first."""

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from efficientvit.errors import StageFailed
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize
from efficientvit.spec import ModelSpec
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import Weights, find_weights
from export.bench.baselines import BASELINES, STOCK, Baseline, baseline_spec, baselines, prepared
from export.bench.peers import judged_rivals
from export.bench.pytorch import COMPILED, PyTorch
from export.bench.pytorch import TARGET as PYTORCH
from export.bench.request import BenchRequest
from export.bench.timm_export import export_stock, stock_model
from export.bench.torch_export import fold_batch_norms
from export.cache.store import Cache
from export.exits import Exit, worst
from export.folder.layout import SHIP
from export.pipeline import run as pipeline
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import load
from export.pipeline.stage_cache import evaluations
from export.request.request import model_names
from export.targets.onnx.calibration import calibration_images
from export.targets.workshop import Workshop
from export.workers.exclusive import Exclusive
from export.workers.gc_freeze import collector_at_rest
from export.workers.pool import default_at_once, in_processes
from export.workers.progress import Progress, Step
from runtimes.external import open_foreign
from runtimes.host.packages import missing
from runtimes.host.threads import one_thread
from runtimes.precision import Precision
from runtimes.registry import native_runtime
from runtimes.runtime import Array, Evidence, Runtime
from validation.external.judge import judge_foreign
from validation.inputs.synthetic import synthetic
from validation.reference.memo import remembering
from validation.timing.interleaved import Peer
from validation.verdict import Verdict, VerifiedArtifact

if TYPE_CHECKING:
    from torch import nn

    from validation.reference.model import ReferenceModel
    from validation.reference.reference import Reference


_NICENESS = 5
"""Of processes that make files while this one compiles."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A file, and what the gates say of it. `runtime`: that has compiled it, or None for its format's."""

    model: str
    target: str
    precision: str
    batch: int
    verdict: Verdict
    runtime: Runtime | None = None


@dataclass(slots=True)
class Entries:
    """What passed and is to be timed, and what is not and why. `untrained`: the models whose weights are random."""

    timed: list[tuple[Judged, Peer]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    code: Exit = Exit.OK


@dataclass(slots=True)
class Judgments:
    """Of one model: every file that was made, and what is to be said beside them."""

    model: str
    judged: list[Judged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    untrained: bool = False
    code: Exit = Exit.OK


def entries(
    request: BenchRequest, progress: Progress, cache: Cache | None = None, at_once: int | None = None
) -> Entries:
    """Make and judge every combination that was asked for: files in processes side by side, PyTorch in this one.

    Raises:
        BadInput: an unknown model or target, options that do not go together, weights or photos that cannot be used.
        MissingExtra: `stock`, `pytorch`, `peers` or `paper` without timm.
    """
    _ = request.made  # what can't be had is refused before minutes of work
    with_timm = request.stock or request.pytorch or request.paper or request.peers
    if with_timm and (error := missing("timm", "baselines", "making the models to compare with")) is not None:
        raise error
    names = [*model_names(request.models, request.image_size), *(BASELINES if request.paper else ())]
    work = functools.partial(judge_files, request, cache)
    at_once = at_once or default_at_once()
    pytorch = InPyTorch(request, progress.step, PyTorch())
    with remembering(evaluations(cache)), ThreadPoolExecutor(1) as aside:
        if at_once > 1 and (len(names) > 1 or request.pytorch):
            # The largest first, as far as their order tells: at the end no process should wait long for one of them.
            coming = aside.submit(list, in_processes(work, names[::-1], progress, min(len(names), at_once)))
            pytorch.judge(names[::-1])
            found = coming.result()
        else:
            found = [each for name in names for each in work(name, progress)]
            pytorch.judge(names)
    result = gathered(request, names, found, pytorch)
    result.notes += [f"{each.target} was left out in {each.precision}: {each.why}" for each in request.left_out]
    return result


def judge_files(
    request: BenchRequest, cache: Cache | None, name: str, progress: Progress, exclusive: Exclusive | None = None
) -> Iterator[Judgments]:
    """All files of one model, ours or timm's, for every batch. `exclusive`: in a worker process."""
    if exclusive is not None and request.pytorch and hasattr(os, "setpriority"):
        # Models can be shared out, and what PyTorch compiles can't: that one process must not wait for a CPU.
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    found = Judgments(name)
    with one_thread(), remembering(evaluations(cache)):
        if name in BASELINES:
            _baseline(request, found, progress.step)
        else:
            for batch in request.batches:
                asked = request.export(name, batch)
                jobs = asked.jobs()
                loaded = load(asked, name, jobs, progress, weights=request.read.get(name))
                for outcome in pipeline.run(loaded, jobs, asked, progress, cache=cache):
                    _ours(outcome, batch, found)
            if request.stock or request.peers:
                _stock(request, found, progress.step)
    yield found


def _ours(outcome: Outcome, batch: int, found: Judgments) -> None:
    """What `vit-export` makes."""
    found.code = worst([found.code, outcome.code(Evidence.NATIVE)])
    final, job = outcome.final, outcome.job
    found.untrained |= outcome.record is not None and not outcome.record["weights"]["trained"]
    if not isinstance(final, VerifiedArtifact) or outcome.folder is None:
        found.notes.append(f"{outcome.slug} is {outcome.status}, and was not timed: {_reason(outcome)}")
        return
    kept = replace(final.artifact, path=outcome.folder / SHIP / final.artifact.path.name)
    verified = VerifiedArtifact(kept, final.report)
    found.judged.append(Judged(job.model, job.target.name, job.precision, batch, verified))


def _stock(request: BenchRequest, found: Judgments, step: Step) -> None:
    """timm's EfficientViT with the same weights, and what others make of it: one reference for all batches."""
    model = found.model
    step(f"{model}: weights and reference for timm's own")
    weights, reference, vacuous = _reference(request, model)
    if vacuous:
        found.notes.append(f"timm's own {model} was not timed: parity on these weights would be vacuous")
        return
    photos = None
    if request.peers and request.calibration is not None:
        shop = Workshop(weights, reference, request.artifacts, request.skip_bad_photos)
        photos = calibration_images(shop, request.calibration)
    for batch in request.batches:
        step(f"{model}: timm's own, batch {batch}")
        request.artifacts.mkdir(parents=True, exist_ok=True)
        path = export_stock(weights.model, request.artifacts / f"{model}-b{batch}-stock.onnx", batch)
        verdict = judge_foreign(open_foreign(path, model, weights.model.spec.classes), reference).verdict
        found.judged.append(Judged(model, "onnx", STOCK, batch, verdict))
        if not request.peers:
            continue
        out = request.artifacts / f"{model}-b{batch}-peers"
        for each in judged_rivals(path, photos, batch, out, reference, request.targets, step):
            if each.verdict is None:
                found.notes.append(f"{model}, {each.target} {each.name}, batch {batch}, was not made: {each.why}")
            else:
                found.judged.append(Judged(model, each.target, each.name, batch, each.verdict))


def _reference(request: BenchRequest, model: str) -> "tuple[Weights, ReferenceModel, bool]":
    """For timm's own, and whether parity on these weights would be vacuous."""
    from validation.reference.model import ReferenceModel
    from validation.self_check import self_check

    reading = Reading(request.ema, request.override)
    weights = request.read.get(model) or find_weights(request.weights, model, request.image_size, reading=reading)
    contract = preprocessing_of(weights.model.spec.image_size, weights.facts, {})
    reference = ReferenceModel(weights.model, synthetic(contract))
    check = self_check(reference, {Precision()})
    return weights, reference, bool(check.by_samples)


def _baseline(request: BenchRequest, found: Judgments, step: Step) -> None:
    """A model that the paper compares itself with; its weights are always random."""
    found.untrained = True
    made: tuple[Baseline, ...] = ()
    for batch in request.batches:
        made = baselines(found.model, batch, request.targets, request.artifacts, step, request.precisions, made)
        found.judged += [Judged(found.model, each.target, each.precision, batch, each.verdict) for each in made]


class InPyTorch:
    """timm's models in PyTorch itself: what was compiled stays in this process, which times it."""

    def __init__(self, request: BenchRequest, step: Step, pytorch: PyTorch) -> None:
        self.judged: list[Judged] = []
        self.notes: list[str] = []
        self._request = request
        self._step = step
        self._pytorch = pytorch

    def judge(self, names: Sequence[str]) -> None:
        """Every one, eagerly and compiled, where PyTorch was asked for."""
        with one_thread(), collector_at_rest():
            for name in names if self._request.pytorch else ():
                self._step(f"{name} in PyTorch: reference")
                if name in BASELINES:
                    model = prepared(name)
                    self._of(model.copied(), baseline_spec(name), model.at(Precision()))
                    continue
                weights, reference, vacuous = _reference(self._request, name)
                if vacuous:
                    self.notes.append(f"{name}, {PYTORCH}, was not timed: parity on these weights would be vacuous")
                else:
                    self._of(stock_model(weights.model), weights.model.spec, reference.at(Precision()))

    def _of(self, module: "nn.Module", spec: ModelSpec, reference: "Reference") -> None:
        """`module` is folded in place."""
        fold_batch_norms(module, spec.image_size)
        for batch in self._request.batches:
            folder = self._request.artifacts / f"{spec.name}-b{batch}-{PYTORCH}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for way, runtime, verdict in self._pytorch.judged(module, spec, batch, reference, folder, self._step):
                    self.judged.append(Judged(spec.name, PYTORCH, way, batch, verdict, runtime))
            except StageFailed as error:
                reason = f"{error.what}: {error.got}"
                self.notes.append(f"{spec.name}, {PYTORCH}, batch {batch}, was not timed: {reason}")


def gathered(request: BenchRequest, names: Sequence[str], found: Sequence[Judgments], pytorch: InPyTorch) -> Entries:
    """In the order of the models, whichever was ready first."""
    by_model = {each.model: each for each in found}
    result = Entries()
    for name in names:
        own = by_model[name]
        result.code = worst([result.code, own.code])
        result.notes += own.notes
        result.untrained += [name] if own.untrained else []
        for each in (*own.judged, *(each for each in pytorch.judged if each.model == name)):
            _enter(each, request.threads, result)
    result.notes += pytorch.notes
    return result


def _enter(each: Judged, threads: Sequence[int], result: Entries) -> None:
    """To be timed where it passed, on each number of threads."""
    verdict, form = each.verdict, f"{each.model}, {each.target} in {each.precision}, batch {each.batch}"
    if not isinstance(verdict, VerifiedArtifact):
        result.notes.append(f"{form}, was not timed: {getattr(verdict, 'reason', '')}")
        return
    if left := verdict.artifact.precision.float_layers:
        result.notes.append(f"{form}: {len(left)} layers are left in float32: {', '.join(left)}")
    if each.precision == COMPILED and any(count != 1 for count in threads):  # its kernels have the number in them
        result.notes.append(f"{each.model}, {each.target} {COMPILED}, is judged and timed on one thread only")
        threads = [count for count in threads if count == 1]
    runtime = each.runtime or native_runtime(verdict.artifact.format)
    feed = _feed(verdict.artifact.model.image_size, each.batch)
    result.timed += [(each, Peer(verdict, runtime, feed, count)) for count in threads]


@functools.cache
def _feed(image_size: ImageSize, batch: int) -> Array:
    """One for all that take such batches: they are kept until everything is timed."""
    images = synthetic(Preprocessing(image_size=image_size)).ordinary().images
    return np.ascontiguousarray(np.take(images, range(batch), axis=0, mode="wrap"))


def _reason(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"{outcome.failed_stage}: {outcome.error.what}"
    if outcome.final is None and outcome.rewrite is not None:
        return outcome.rewrite.reason
    return getattr(outcome.final, "reason", "")
