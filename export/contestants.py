"""Who takes part in a benchmark: ours, timm's own export, PyTorch itself and the paper's rivals, each judged first."""

import functools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from efficientvit.errors import StageFailed
from efficientvit.preprocess import Preprocessing
from efficientvit.spec import ModelSpec
from export import pipeline
from export.baselines import BASELINES, STOCK, baseline_spec, baselines, prepared
from export.bench_request import BenchRequest
from export.exits import Exit, worst
from export.listener import Progress
from export.manifest import SHIP
from export.outcome import Outcome
from export.pytorch import TARGET as PYTORCH
from export.pytorch import PyTorch
from export.request import model_names
from export.step import Step
from export.stock import export_stock, stock_model
from export.to_torch import fold_batch_norms
from export.weights import find_weights
from runtimes.artifact import Precision
from runtimes.base import Array, Evidence, Runtime
from runtimes.extras import missing
from runtimes.foreign import open_foreign
from runtimes.registry import native_runtime
from validation.foreign import judge_foreign
from validation.golden_synthetic import synthetic
from validation.turns import Contestant
from validation.verdict import Verdict, VerifiedArtifact

if TYPE_CHECKING:
    from torch import nn

    from validation.reference import Reference


@dataclass(frozen=True, slots=True)
class Candidate:
    """What passed and is to be timed."""

    model: str
    target: str
    precision: str
    contestant: Contestant


@dataclass(slots=True)
class Field:
    """Everybody who is to be timed, and who is not and why. `untrained`: the models whose weights are random."""

    candidates: list[Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    code: Exit = Exit.OK


def contestants(request: BenchRequest, progress: Progress) -> Field:
    """Make and judge every combination that was asked for.

    Raises:
        BadInput: an unknown model or target, options that do not go together, weights or photos that cannot be used.
        MissingExtra: `stock`, `pytorch` or `paper` without timm.
    """
    with_timm = request.stock or request.pytorch or request.paper
    if with_timm and (error := missing("timm", "baselines", "making the models to compare with")) is not None:
        raise error  # now, not after minutes of work
    gathering = _Gathering(request, progress.step, PyTorch())
    for model in model_names(request.models, request.image_size):
        for batch in request.batches:
            for outcome in pipeline.run(request.export(model, batch), progress):
                gathering.ours(outcome, batch)
        if request.stock or request.pytorch:
            gathering.of_timm(model)
    for name in BASELINES if request.paper else ():
        gathering.baseline(name)
    return gathering.field


class _Gathering:
    """Takes in one after the other."""

    def __init__(self, request: BenchRequest, step: Step, pytorch: PyTorch) -> None:
        self.field = Field()
        self._request = request
        self._step = step
        self._pytorch = pytorch

    def ours(self, outcome: Outcome, batch: int) -> None:
        """What `vit-export` makes."""
        self.field.code = worst([self.field.code, outcome.code(Evidence.NATIVE)])
        final, job = outcome.final, outcome.job
        if outcome.folder is not None:
            manifest = json.loads((outcome.folder / "manifest.json").read_text("utf-8"))
            if not manifest["weights"]["trained"] and job.model not in self.field.untrained:
                self.field.untrained.append(job.model)
        if not isinstance(final, VerifiedArtifact) or outcome.status != "verified" or outcome.folder is None:
            self.field.notes.append(f"{outcome.slug} is {outcome.status}, and was not timed: {_reason(outcome)}")
            return
        kept = replace(final.artifact, path=outcome.folder / SHIP / final.artifact.path.name)
        verified = VerifiedArtifact(kept, final.report)
        self._add(job.model, job.target.name, job.precision, batch, verified, native_runtime(kept.format))

    def of_timm(self, model: str) -> None:
        """timm's EfficientViT with the same weights: one reference for all batches and both PyTorch and ONNX."""
        from validation.reference import ReferenceModel
        from validation.self_check import CHECKPOINT, SEEDED, self_check

        self._step(f"{model}: weights and reference for timm's own")
        weights = find_weights(self._request.weights, model, self._request.image_size)
        reference = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=weights.model.spec.image_size)))
        check = self_check(reference, CHECKPOINT if weights.trained else SEEDED, {Precision()})
        if check.vacuous:
            self.field.notes.append(f"timm's own {model} was not timed: parity on these weights would be vacuous")
            return
        for batch in self._request.batches if self._request.stock else ():
            self._step(f"{model}: timm's own, batch {batch}")
            self._request.artifacts.mkdir(parents=True, exist_ok=True)
            path = export_stock(weights.model, self._request.artifacts / f"{model}-b{batch}-stock.onnx", batch)
            found = judge_foreign(open_foreign(path, model, weights.model.spec.classes), reference)
            self._add(model, "onnx", STOCK, batch, found.verdict, native_runtime(found.verdict.artifact.format))
        if self._request.pytorch:
            self._in_pytorch(stock_model(weights.model), weights.model.spec, reference.at(Precision()))

    def baseline(self, name: str) -> None:
        """A model that the paper compares itself with; its weights are always random."""
        request = self._request
        self.field.untrained.append(name)
        for batch in request.batches:
            for made in baselines(name, batch, request.targets, request.artifacts, self._step, request.precisions):
                runtime = native_runtime(made.verdict.artifact.format)
                self._add(name, made.target, made.precision, batch, made.verdict, runtime)
        if request.pytorch:
            model = prepared(name)
            self._in_pytorch(model.copied(), baseline_spec(name), model.at(Precision()))

    def _in_pytorch(self, module: "nn.Module", spec: ModelSpec, reference: "Reference") -> None:
        """`module` is folded in place."""
        fold_batch_norms(module, spec.image_size)
        for batch in self._request.batches:
            folder = self._request.artifacts / f"{spec.name}-b{batch}-{PYTORCH}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for way, runtime, verdict in self._pytorch.judged(module, spec, batch, reference, folder, self._step):
                    self._add(spec.name, PYTORCH, way, batch, verdict, runtime)
            except StageFailed as error:
                reason = f"{error.what}: {error.got}"
                self.field.notes.append(f"{spec.name}, {PYTORCH}, batch {batch}, was not timed: {reason}")

    def _add(self, model: str, target: str, precision: str, batch: int, verdict: Verdict, runtime: Runtime) -> None:
        if not isinstance(verdict, VerifiedArtifact):
            reason = getattr(verdict, "reason", "")
            note = f"{model}, {target} in {precision}, batch {batch}, was not timed: {reason}"
            self.field.notes.append(note)
            return
        feed = _feed(verdict.artifact.model.image_size, batch)
        self.field.candidates += (
            Candidate(model, target, precision, Contestant(verdict, runtime, feed, threads))
            for threads in self._request.threads
        )


def _reason(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"{outcome.failed_stage}: {outcome.error.what}"
    if outcome.final is None and outcome.rewrite is not None:
        return outcome.rewrite.reason
    return getattr(outcome.final, "reason", "")


@functools.cache
def _feed(image_size: int, batch: int) -> Array:
    """One for all that take such batches: they are kept until everything is timed."""
    images = synthetic(Preprocessing(image_size=image_size)).ordinary().images
    return np.ascontiguousarray(np.take(images, range(batch), axis=0, mode="wrap"))
