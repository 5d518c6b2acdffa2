"""Faults planted in the artifacts of one model, one at a time, and what the gates say of each.

Every artifact is made by the real stages, judged healthy, then spoiled in one way at a time and judged again: by the
same gates, on one image of each kind.
"""

import copy
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from efficientvit.deploy import rewrites as deploy
from efficientvit.errors import BrokenArtifact, StageFailed, Unavailable
from efficientvit.model import EfficientViT
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.source import Weights
from export.selftest.artifacts import Artifacts, Made, job_for, spoiled, verdict_on
from export.selftest.faults import inputs, rewrites, table
from export.selftest.faults.fault import Fault, Rng, first_line
from export.selftest.result import Detection, Healthy
from export.selftest.truth import altered, changes, names_module
from export.targets.workshop import Workshop
from export.workers import output_capture
from export.workers.progress import Step
from runtimes.artifact import Artifact
from runtimes.host.threads import one_thread
from runtimes.interface import OUTPUT
from runtimes.registry import reader_of, runtime_for
from runtimes.runtime import Images, Mode
from validation.blame.artifact import blame_artifact
from validation.blame.rewrite import blame_rewrite
from validation.gates.gate import Where
from validation.gates.rewrite import EXACT, rewrite_gates
from validation.gates.table import names
from validation.inputs.golden_set import Kind
from validation.inputs.synthetic import synthetic
from validation.int8.ranges import with_calibration
from validation.metrics import relative_error
from validation.proof.identity import prove
from validation.proof.outcome import Outcome, Proof
from validation.proof.rewrites import audit, prove_rewrites
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.self_check import SelfCheck, self_check
from validation.verdict import NotRun, VerifiedArtifact

NO_PLACE = (AssertionError, IndexError, KeyError, StopIteration, ValueError)
"""What a plant raises where the model has no place for it, such as windows that are not padded."""

FED = "app"
"""In the place of a target, for what a file is fed."""

_WITH_LAYERS = frozenset(names(lambda gate: gate.blame in (Where.LAYERS, Where.LAYERS_AS_SHIPPED)))


@dataclass(frozen=True, slots=True)
class Part:
    """What came of some of the faults; as `SelfTest` has it."""

    check: SelfCheck
    healthy: tuple[Healthy, ...]
    detections: tuple[Detection, ...]
    inputs: tuple[Detection, ...]
    unplanted: tuple[str, ...]


def plant(weights: Weights, forms: Sequence[tuple[str, str]], *, model_itself: bool, seed: int, step: Step) -> Part:
    """Plant the faults in files of these targets and variants. `model_itself`: those of rewrites and inputs too."""
    with one_thread(), tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        step("reference in float64, noise floors, self-check")
        contract = preprocessing_of(weights.model.spec.image_size, weights.facts, {})
        golden = synthetic(contract).one_of_each_kind()
        reference = ReferenceModel(weights.model, golden)
        check = self_check(reference)
        planter = _Planter(Workshop(weights, reference, Path(scratch)), Path(scratch), seed, step)
        with output_capture.into(Path(scratch) / "log.txt"):
            detections = list(planter.rewrites()) if model_itself else []
            for form in forms:
                detections += planter.files(*form)
            wrong_inputs = tuple(planter.inputs()) if model_itself else ()
        return Part(check, tuple(planter.healthy), tuple(detections), wrong_inputs, tuple(planter.unplanted))


def not_planted(target: str, variant: str, error: Unavailable) -> str:
    """What is not installed is told in these words."""
    return f"{len(_faults_in(target, variant))} faults in {target} {variant}: {error.what}"


def _faults_in(target: str, variant: str) -> list[Fault]:
    return [each for each in table.FAULTS if (each.target, each.variant) == (target, variant) and not each.rare]


def rng_for(seed: int, name: str) -> Rng:
    """Of one fault: which others are planted does not matter."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@torch.no_grad()
def planted_rewrite(model: ReferenceModel, fault: rewrites.RewriteFault, rng: Rng) -> tuple[ReferenceModel, str]:
    """The model with a faulty deploy form, and where the fault is."""
    places: list[str] = []

    def plant(form: EfficientViT) -> EfficientViT:
        places.append(fault.plant(form, rng))
        return form

    steps = (plant, *deploy.REWRITES) if fault.first else (*deploy.REWRITES, plant)
    faulty = copy.copy(model)
    faulty.rewritten = deploy.rewritten(model.trained, steps)
    return faulty, places[0]


def proof_of_rewrites(model: ReferenceModel, faulty: ReferenceModel, fault: rewrites.RewriteFault, rng: Rng) -> Outcome:
    """Whether the rewrites with the fault among them are still an identity, and their constants rounded but once."""

    def planted(form: EfficientViT) -> EfficientViT:
        steps = deploy.REWRITES
        if fault.first:
            fault.plant(form, rng)
        for rewrite in steps:
            form = rewrite(form)
        if not fault.first:
            fault.plant(form, rng)
        return form

    if any(audit(model.trained, copy.deepcopy(faulty.rewritten).float())):
        return Outcome.DIFFERENT
    proven = all(step.proven for step in prove_rewrites(model.trained, (planted,)))
    return Outcome.PROVEN if proven else Outcome.DIFFERENT


class _Planter:
    """Plants faults in one model's artifacts and notes what was healthy and what could not be planted."""

    def __init__(self, shop: Workshop, scratch: Path, seed: int, step: Step) -> None:
        self._reference = shop.reference
        self._model = shop.weights.model.spec.name
        self._artifacts = Artifacts(shop, scratch)
        self._scratch = scratch
        self._seed = seed
        self._step = step
        self._judged: set[Path] = set()
        self.healthy: list[Healthy] = []
        self.unplanted: list[str] = []

    def rewrites(self) -> Iterator[Detection]:
        """Faults between the trained and the deploy form."""
        wrong = [gate.detail for gate in rewrite_gates(self._reference) if not gate.passed]
        self.healthy.append(Healthy("torch", "float64", "rewrite", not wrong, "; ".join(wrong)))
        for fault in rewrites.FAULTS:
            name = str(fault)
            self._step(f"rewrite: {name}")
            try:
                faulty, place = planted_rewrite(self._reference, fault, rng_for(self._seed, name))
            except NO_PLACE as error:
                self.unplanted.append(f"{name}: {error}")
                continue
            effect = _structure_error(faulty) / EXACT
            seen = tuple(str(gate.gate) for gate in rewrite_gates(faulty) if not gate.passed)
            blamed = names_module(blame_rewrite(faulty), place) if seen else None
            proof = proof_of_rewrites(self._reference, faulty, fault, rng_for(self._seed, name))
            at = ("torch", "float64", "rewrite")
            yield Detection(name, first_line(fault.plant), *at, seen, blamed, effect, program=True, proof=proof)

    def files(self, target: str, variant: str) -> Iterator[Detection]:
        """Faults in the files of one target and variant."""
        faults = _faults_in(target, variant)
        try:
            chain = self._artifacts.chain(job_for(self._model, target, variant), self._step)
            for stage, made in chain.items():
                self._judge_healthy(made, target, variant, stage)
        except Unavailable as error:  # what is not installed here is not what is exported here
            self.unplanted.append(not_planted(target, variant, error))
            return
        for fault in faults:
            self._step(f"{target} {variant}: {fault.name}")
            made = chain[fault.stage]
            with ExitStack() as stack:
                folder, rng = self._scratch / "spoiled", rng_for(self._seed, str(fault))
                try:
                    copied = stack.enter_context(spoiled(made, fault, folder, rng))
                except NO_PLACE as error:
                    self.unplanted.append(f"{fault}: {type(error).__name__} {error}")
                    continue
                yield self._detection(fault, made, copied)

    def _judge_healthy(self, made: Made, target: str, variant: str, stage: str) -> None:
        """Once, whoever shares it."""
        if made.artifact.path in self._judged:
            return
        self._judged.add(made.artifact.path)
        verdict = verdict_on(made, self._reference)
        if isinstance(verdict, NotRun):
            raise Unavailable(f"stage {stage}: {verdict.reason}", next_step=verdict.remedy)
        passed = isinstance(verdict, VerifiedArtifact)
        why = "" if passed else getattr(verdict, "reason", "")
        self.healthy.append(Healthy(target, variant, stage, passed, why))

    def _detection(self, fault: Fault, made: Made, copied: Made) -> Detection:
        seen: tuple[str, ...]
        blamed: bool | None = None
        effect: float | None = None
        proof: Proof | None = None
        try:
            verdict = verdict_on(copied, self._reference)
        except (StageFailed, BrokenArtifact) as error:  # the runtime refuses the file: a failed stage, exit 4
            seen = (type(error).__name__,)
        else:
            judged = verdict.report.gates if verdict.report else ()
            proof = verdict.report.proof if verdict.report else None
            failed = [gate for gate in judged if not gate.passed]
            seen = tuple(str(gate.gate) for gate in failed)
            if not failed or {gate.gate for gate in failed} & _WITH_LAYERS:
                images, budget = self._images(copied.artifact), self._budget(copied.artifact)
                truth, effect = changes(made.artifact, copied.artifact, images, budget)
                if truth is not None and failed:
                    blame = blame_artifact(copied.artifact, self._reference, judged, source=copied.source)
                    blamed = truth.named_by(blame)
        at = (fault.target, fault.variant, fault.stage)
        program = fault.program and reader_of(made.artifact).has_program
        seen_by_proof = self._proof(made, copied, proof)
        return Detection(fault.name, fault.says, *at, seen, blamed, effect, program, *seen_by_proof)

    def _proof(self, made: Made, copied: Made, proof: Proof | None) -> tuple[Outcome | None, bool | None]:
        """What came of the proof, made here where no gate asked for it, and whether it names what was spoiled.

        Both None where the format's reader has no program.
        """
        if not reader_of(made.artifact).has_program:
            return None, None
        try:
            if proof is None:
                reference = with_calibration(self._at(copied.artifact), copied.artifact, copied.source)
                proof = prove(copied.artifact, reference.constants)
            healthy, spoiled = (reader_of(each.artifact).program(each.artifact)[0] for each in (made, copied))
        except BrokenArtifact:
            return (proof.outcome if proof else None), None
        if proof.outcome is Outcome.PROVEN:
            return proof.outcome, None
        return proof.outcome, any(f"'{name}'" in proof.detail for name in altered(healthy, spoiled))

    def inputs(self) -> Iterator[Detection]:
        """Faults in what an app feeds: the answers on a photo must leave the precision gate's budget."""
        artifact = self._artifacts.chain(job_for(self._model, "onnx", "fp32"), self._step)["simplify"].artifact
        preprocessing = self._reference.golden.preprocessing
        photo = inputs.photo(preprocessing.image_size, self._seed)
        reference = self._reference.at(artifact.precision)
        budget = max(map(reference.classifier.precision_budget, reference.kinds))
        with runtime_for(artifact.format).open(artifact, Mode.SHIPPED) as session, torch.no_grad():
            good = inputs.right(photo, preprocessing)[None]
            exact = self._reference.exact(torch.tensor(good).double()).numpy()
            own = float(relative_error(session(good)[OUTPUT], exact)[0])
            self.healthy.append(Healthy(FED, "photo", "input", own <= budget, f"{own:.1e}"))
            for fault in inputs.FAULTS:
                self._step(f"input: {fault.name}")
                fed = fault.feed(photo, preprocessing, rng_for(self._seed, fault.name))[None]
                error = float(relative_error(session(fed)[OUTPUT], exact)[0])
                seen = ("the kit's picture",) if not error <= budget else ()
                yield Detection(fault.name, fault.says, FED, "photo", "input", seen, None, error / budget)

    def _at(self, artifact: Artifact) -> Reference:
        return self._reference.at(artifact.precision, image_input=artifact.interface.image_input)

    def _images(self, artifact: Artifact) -> list[Images]:
        reference = self._at(artifact)
        members = reference.golden.members
        if reference.image_input:
            return [member.data[None] for member in members if member.has_pixels][:2]
        kinds = (*reference.kinds, Kind.AMPLIFIED)  # a ReLU that clips shows on the last alone
        rows = [row for row, member in enumerate(members) if member.kind in kinds]
        return [reference.inputs[[row]] for row in (rows[0], rows[-1])]

    def _budget(self, artifact: Artifact) -> float:
        reference = self._at(artifact)
        return max(map(reference.classifier.structure_budget, reference.kinds))


def _structure_error(model: ReferenceModel) -> float:
    """Of the deploy form in float64, over the ordinary images."""
    ordinary = model.golden.ordinary_rows
    with torch.no_grad():
        logits = model.rewritten(model.images[ordinary].double()).numpy()
    return float(relative_error(logits, model.logits[ordinary]).max())
