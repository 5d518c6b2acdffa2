"""`vit-export selftest`: the gates, tried on faults that are planted in artifacts of the user's own weights.

Every artifact is made by the real stages, judged healthy, then spoiled in one way at a time and judged again: by the
same gates, on one image of each kind. What is right about the blame is found without the model: the layers that give
something else than in the healthy file although they read the same.
"""

import copy
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from efficientvit.deploy import rewrites as deploy
from efficientvit.errors import BrokenArtifact, StageFailed, Unavailable, VitExportError
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from efficientvit.weights.source import Weights, find_weights
from export.exits import Exit
from export.request.request import Request
from export.selftest.faults import inputs as input_faults
from export.selftest.faults import rewrites as rewrite_faults
from export.selftest.faults.coreml import table as coreml
from export.selftest.faults.fault import FileFault, first_line
from export.selftest.faults.onnx import table as onnx_table
from export.selftest.faults.openvino import ir
from export.step import Step
from export.targets.coreml.options import CoreMlOptions
from export.targets.onnx.calibration import GOLDEN
from export.targets.workshop import Workshop
from export.workers import output_capture
from runtimes.artifact import Artifact, digest
from runtimes.host.threads import REFERENCE_THREADS, torch_threads
from runtimes.reader import Layer, Layers, Values
from runtimes.registry import open_layers, read_constants, runtime_for
from runtimes.runtime import Images, Mode
from validation.blame.artifact import blame_artifact
from validation.blame.ranking import Blame
from validation.blame.rewrite import blame_rewrite
from validation.gates import table
from validation.gates.gate import Where
from validation.gates.result import GateResult
from validation.gates.rewrite import EXACT, rewrite_gates
from validation.inputs.golden_set import Kind
from validation.inputs.synthetic import synthetic
from validation.int8.ranges import with_calibration
from validation.judge import judge
from validation.metrics import relative_error
from validation.reference.floors import ordinary
from validation.reference.model import ReferenceModel
from validation.self_check import SelfCheck, criteria_of, self_check
from validation.verdict import NotRun, Verdict, VerifiedArtifact

FORMS = (
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "fp16"),
    ("openvino", "int8"),
    ("coreml", "fp16"),
)
"""Targets and variants that are spoiled; Core ML's compressed forms only on request, they take long to make."""

_BITS = {"int8": 8, "palette6": 6}
_COMPRESSED = tuple(("coreml", variant) for variant in _BITS)
_NOWHERE = (AssertionError, IndexError, KeyError, StopIteration, ValueError)

_VISIBLE = 2.0
"""Budgets: a fault of such an effect has to be caught."""

_BLAMED = 3
"""Among so many suspects the right one has to be."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """A stage's artifact as it should be, and whether the gates let it pass. `source`: what it was made of."""

    artifact: Artifact | None
    target: str
    variant: str
    stage: str
    passed: bool
    why: str
    source: Artifact | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """One planted fault, and what became of it.

    `seen_by`: the gates that rejected it. `blamed`: whether the right layer was among the first three suspects; None
    where the fault has no layer. `effect`: what it does to the logits, over the structure gate's budget; None where
    they can't be had.
    """

    name: str
    says: str
    target: str
    variant: str
    stage: str
    seen_by: tuple[str, ...]
    blamed: bool | None
    effect: float | None

    @property
    def caught(self) -> bool:
        """Some gate rejected it."""
        return bool(self.seen_by)

    @property
    def shows(self) -> bool:
        """It moves the logits so far that it has to be caught. Where that can't be measured it is taken to."""
        return self.effect is None or not self.effect < _VISIBLE


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the gates did on these weights.

    `inputs`: what wrong preparations of a photo do to the answer of a right artifact, over the precision gate's budget:
    no gate of an export sees an app, the kit's picture does. `unplanted`: faults for which this model has no place, and
    targets that are not installed.
    """

    weights: Weights
    check: SelfCheck
    seed: int
    healthy: tuple[Healthy, ...]
    detections: tuple[Detection, ...]
    inputs: tuple[Detection, ...] = ()
    unplanted: tuple[str, ...] = ()

    @property
    def missed(self) -> tuple[Detection, ...]:
        """Faults that no gate saw though they show."""
        return tuple(detection for detection in self.detections if not detection.caught and detection.shows)

    @property
    def invisible(self) -> tuple[Detection, ...]:
        """Faults that no gate saw because they move no logit by more than rounding does."""
        return tuple(detection for detection in self.detections if not detection.caught and not detection.shows)

    @property
    def false_alarms(self) -> tuple[Healthy, ...]:
        """Healthy artifacts that were rejected."""
        return tuple(artifact for artifact in self.healthy if not artifact.passed)

    @property
    def code(self) -> Exit:
        """A fault that no logit shows need not be seen; one that does, must be."""
        if self.missed or self.false_alarms:
            return Exit.REJECTED
        return Exit.NOT_VERIFIED if self.check.vacuous else Exit.OK

    @property
    def kinds(self) -> int:
        """Different faults, by what is wrong and in which format."""
        return len({(detection.name, detection.target) for detection in self.detections})

    @property
    def blamed(self) -> tuple[int, int]:
        """Of the faults that have a layer: how often it was among the first three suspects, and how many there are."""
        told = [detection.blamed for detection in self.detections if detection.blamed is not None]
        return sum(told), len(told)


def selftest(
    model: str,
    option: str,
    *,
    image_size: int | None = None,
    seed: int = 0,
    full: bool = False,
    step: Step = lambda _: None,
) -> SelfTest:
    """Plant every fault once, at a place and of a size that `seed` decides. `full`: in compressed packages as well.

    Raises:
        BadInput, DownloadFailed: the weights cannot be used, or had.
    """
    with torch_threads(REFERENCE_THREADS), tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        step("weights, reference in float64, noise floors, self-check")
        weights = find_weights(option, model, image_size)
        golden = synthetic(Preprocessing(image_size=weights.model.spec.image_size)).one_of_each_kind()
        reference = ReferenceModel(weights.model, golden)
        check = self_check(reference, criteria_of(trained=weights.trained))
        bench = _Bench(Workshop(weights, reference, Path(scratch)), Path(scratch), seed)
        with output_capture.into(Path(scratch) / "log.txt"):
            detections = list(bench.rewrites(step))
            for target, variant in (*FORMS, *(_COMPRESSED if full else ())):
                try:
                    detections += bench.files(target, variant, step)
                except Unavailable as error:  # what is not installed here is not what is exported here
                    bench.unplanted.append(f"in {target} {variant}: {error.what}")
            wrong_inputs = tuple(bench.inputs(step))
        unplanted = tuple(bench.unplanted)
        return SelfTest(weights, check, seed, tuple(bench.healthy), tuple(detections), wrong_inputs, unplanted)


class _Bench:
    """The healthy artifacts of one model, made once, and what is planted in copies of them."""

    def __init__(self, shop: Workshop, scratch: Path, seed: int) -> None:
        self._shop = shop
        self._scratch = scratch
        self._seed = seed
        self._made: dict[tuple[str, ...], Healthy] = {}
        self.healthy: list[Healthy] = []
        self.unplanted: list[str] = []

    @property
    def _reference(self) -> ReferenceModel:
        return self._shop.reference

    def rewrites(self, step: Step) -> Iterator[Detection]:
        """Faults between the trained and the deploy form."""
        model = self._reference
        wrong = [gate.detail for gate in rewrite_gates(model) if not gate.passed]
        self.healthy.append(Healthy(None, "torch", "float64", "rewrite", not wrong, "; ".join(wrong)))
        for fault in rewrite_faults.FAULTS:
            step(f"rewrite: {fault.plant.__name__}")
            places: list[str] = []
            spoiled = copy.copy(model)
            spoiled.rewritten = self._planted(fault, places)
            error = _structure_error(spoiled)
            seen = tuple(str(gate.gate) for gate in rewrite_gates(spoiled) if not gate.passed)
            blamed = _names(blame_rewrite(spoiled), places[0]) if seen else None
            name = fault.plant.__name__
            yield Detection(name, first_line(fault.plant), "torch", "float64", "rewrite", seen, blamed, error / EXACT)

    @torch.no_grad()
    def _planted(self, fault: rewrite_faults.RewriteFault, places: list[str]) -> EfficientViT:
        def plant(form: EfficientViT) -> EfficientViT:
            places.append(fault.plant(form, self._rng(fault.plant.__name__)))
            return form

        steps = (plant, *deploy.REWRITES) if fault.first else (*deploy.REWRITES, plant)
        return deploy.rewritten(self._reference.trained, steps)

    def files(self, target: str, variant: str, step: Step) -> Iterator[Detection]:
        """Faults in the files of one target and variant."""
        chosen = [fault for fault in _FILE_FAULTS if (fault.target, fault.variant) == (target, variant)]
        if not chosen:
            return
        stages = self._stages(target, variant, step)
        for fault in chosen:
            if fault.stage not in stages:
                continue
            step(f"{target} {variant}: {fault.name}")
            made = stages[fault.stage]
            assert made.artifact is not None
            try:
                spoiled = self._spoiled(made.artifact, fault)
            except _NOWHERE as error:  # this model has no place for it, such as windows that are not padded
                self.unplanted.append(f"{fault}: {type(error).__name__} {error}")
                continue
            yield self._detection(fault, made, spoiled)

    def _stages(self, target: str, variant: str, step: Step) -> dict[str, Healthy]:
        """Every stage's healthy artifact; the stages that others share are made and judged once."""
        precision = "fp16" if target == "coreml" else variant
        options = {"coreml": CoreMlOptions(ios=16, weights_bits=_BITS.get(variant))} if target == "coreml" else {}
        calibrate = GOLDEN if precision == "int8" else None
        name = self._shop.weights.model.spec.name
        request = Request((name,), (target,), precision, kit=False, options=options, calibrate=calibrate)
        (job,) = request.jobs()
        result: dict[str, Healthy] = {}
        source: Artifact | None = None
        for stage, form in job.plan:
            name = stage.name
            shared = () if stage.shared else (target, "" if name in ("twin", "coreml") else variant)
            key = (name, *shared)
            if key not in self._made:
                step(f"{target} {variant}: {name}")
                artifact = stage(replace(self._shop, folder=self._scratch / "-".join(key)), job, form, source)
                self._made[key] = self._judged(artifact, source, target, variant, name)
                self.healthy.append(self._made[key])
            result[name] = self._made[key]
            source = result[name].artifact
        return result

    def _judged(self, artifact: Artifact, source: Artifact | None, target: str, variant: str, name: str) -> Healthy:
        verdict = self._verdict(artifact, source)
        if isinstance(verdict, NotRun):
            raise Unavailable(f"{target} {variant}, stage {name}: {verdict.reason}", next_step=verdict.remedy)
        passed = isinstance(verdict, VerifiedArtifact)
        return Healthy(
            artifact, target, variant, name, passed, "" if passed else getattr(verdict, "reason", ""), source
        )

    def _verdict(self, artifact: Artifact, source: Artifact | None) -> Verdict:
        reference = self._reference.at(artifact.precision, image_input=artifact.interface.image_input)
        return judge(artifact, with_calibration(reference, artifact, source), runtime_for(artifact.format))

    def _blamed(self, artifact: Artifact, source: Artifact | None, failed: Sequence[GateResult]) -> Blame:
        return blame_artifact(artifact, self._reference, failed, source=source)

    def _spoiled(self, artifact: Artifact, fault: FileFault) -> Artifact:
        folder = self._scratch / "spoiled"
        shutil.rmtree(folder, ignore_errors=True)
        path = artifact.copied_to(folder)
        fault.plant(path, self._rng(str(fault)))
        return replace(artifact, path=path, sha256=digest(path))

    def _detection(self, fault: FileFault, made: Healthy, spoiled: Artifact) -> Detection:
        found: tuple[str, ...]
        blamed: bool | None = None
        effect: float | None = None
        try:
            verdict = self._verdict(spoiled, made.source)
        except (StageFailed, BrokenArtifact) as error:  # the runtime refuses the file: a failed stage, exit 4
            found = (type(error).__name__,)
        else:
            failed = [gate for gate in verdict.report.gates if not gate.passed] if verdict.report else []
            found = tuple(str(gate.gate) for gate in failed)
            if not failed or {gate.gate for gate in failed} & _WITH_LAYERS:
                images = self._images(spoiled)
                assert made.artifact is not None
                truth, effect = _changes(made.artifact, spoiled, images, self._budget(spoiled))
                if truth is not None and verdict.report is not None and failed:
                    blamed = truth.named_by(self._blamed(spoiled, made.source, verdict.report.gates))
        return Detection(fault.name, fault.says, fault.target, fault.variant, fault.stage, found, blamed, effect)

    def inputs(self, step: Step) -> Iterator[Detection]:
        """Faults in what an app feeds: the answers on a photo must leave the precision gate's budget."""
        artifact = self._made["simplify",].artifact
        assert artifact is not None
        preprocessing = self._reference.golden.preprocessing
        picture = input_faults.photo(preprocessing.image_size, self._seed)
        reference = self._reference.at(artifact.precision)
        budget = max(reference.precision_budget(kind) for kind in ordinary(reference.floors))
        with runtime_for(artifact.format).open(artifact, Mode.SHIPPED) as session, torch.no_grad():
            good = input_faults.right(picture, preprocessing)[None]
            exact = self._reference.exact(torch.tensor(good).double()).numpy()
            own = float(relative_error(session(good), exact)[0])
            self.healthy.append(Healthy(artifact, "app", "photo", "input", own <= budget, f"{own:.1e}"))
            for fault in input_faults.FAULTS:
                step(f"input: {fault.name}")
                fed = fault.feed(picture, preprocessing, self._rng(fault.name))[None]
                error = float(relative_error(session(fed), exact)[0])
                seen = ("the kit's picture",) if not error <= budget else ()
                yield Detection(fault.name, fault.says, "app", "photo", "input", seen, None, error / budget)

    def _images(self, artifact: Artifact) -> list[Images]:
        reference = self._reference.at(artifact.precision, image_input=artifact.interface.image_input)
        members = reference.golden.members
        if reference.image_input:
            return [member.data[None] for member in members if member.has_pixels][:2]
        kinds = (*ordinary(reference.floors), Kind.AMPLIFIED)  # a ReLU that clips shows on the last alone
        rows = [row for row, member in enumerate(members) if member.kind in kinds]
        return [reference.inputs[[row]] for row in (rows[0], rows[-1])]

    def _budget(self, artifact: Artifact) -> float:
        reference = self._reference.at(artifact.precision, image_input=artifact.interface.image_input)
        return max(reference.structure_budget(kind) for kind in ordinary(reference.structure_floors))

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(name.encode())])


_FILE_FAULTS: Sequence[FileFault] = (*onnx_table.FAULTS, *ir.FAULTS, *coreml.FAULTS)
_WITH_LAYERS = frozenset(table.names(lambda gate: gate.blame in (Where.LAYERS, Where.LAYERS_AS_SHIPPED)))


@dataclass(frozen=True, slots=True)
class _Truth:
    """Where a file was spoiled: `layers`, by name, and `constants` that are not as they were."""

    layers: frozenset[str]
    constants: frozenset[str]

    def named_by(self, blame: Blame) -> bool:
        """One of the first suspects is the layer, reads the constant, or is the constant; or is its quantizer."""
        for suspect in blame.suspects[:_BLAMED]:
            layer = suspect.layer.name if suspect.layer else ""
            held = {(suspect.constant or "").replace(".", "_")}
            if suspect.layer and suspect.layer.kind == "quantizer":
                held |= {f"{layer}{end}".replace(".", "_") for end in ("_scale", "_zero_point", "_range")}
            if layer in self.layers or held & self.constants:
                return True
        return False


def _changes(
    healthy: Artifact, spoiled: Artifact, images: Sequence[Images], budget: float
) -> tuple[_Truth | None, float | None]:
    """Where the two files part, and how far their logits do, over `budget`. None where one can't be run.

    A layer that lost its place is missed by those that read it: they count as well.
    """
    one, other = ({n.replace(".", "_"): v for n, v in read_constants(each)} for each in (healthy, spoiled))
    constants = frozenset(name for name, value in other.items() if not _same(one.get(name), value))
    names: set[str] = set()
    effect = 0.0
    try:
        for image in images:
            with _opened(healthy, image) as (known, before), _opened(spoiled, image) as (layers, after):
                names |= _origins({layer.name: layer for layer in known.layers}, layers.layers, before, after)
                error = relative_error(after[layers.output], before[known.output].astype(np.float64))
                effect = max(effect, float(error[0]) / budget)
    except (VitExportError, KeyError):
        return (_Truth(frozenset(), constants) if constants else None), None
    if not names and not constants:
        return None, effect
    return _Truth(frozenset(names), constants), effect


def _origins(known: Mapping[str, Layer], layers: Sequence[Layer], before: Values, after: Values) -> set[str]:
    """Layers that give something else than in the healthy file though they read the same, and what reads them."""
    wrong: set[str] = set()
    first: list[Layer] = []
    for layer in layers:
        given = known[layer.name].gives if layer.name in known else ()
        same = len(given) == len(layer.gives) and all(
            _same(before.get(a), after[b]) for a, b in zip(given, layer.gives, strict=True) if b in after
        )
        if not same:
            if wrong.isdisjoint(layer.reads):
                first.append(layer)
            wrong.update(layer.gives)
    spoiled = {tensor for layer in first for tensor in layer.gives}
    return {layer.name for layer in first} | {layer.name for layer in layers if spoiled.intersection(layer.reads)}


@contextmanager
def _opened(artifact: Artifact, images: Images) -> Iterator[tuple[Layers, Values]]:
    batch = images.repeat(artifact.batch or 1, axis=0)
    with open_layers(artifact, Mode.ORACLE) as opened:
        yield opened, opened.run(batch)


def _same(one: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None", other: object) -> bool:
    value = np.asarray(other)
    return one is not None and one.shape == value.shape and np.array_equal(one, value, equal_nan=one.dtype.kind == "f")


def _names(blame: Blame, place: str) -> bool | None:
    """Whether the module that the plant says it spoiled is among the first suspects', or is right above or below.

    None of a plant in all of the model, which has no place. Windows that fill their grid lose a level of names in the
    deploy form.
    """
    module = place.split(":", maxsplit=1)[0].strip().replace(".attention", "")
    parts = [suspect.module.replace(".attention", "") for suspect in blame.suspects[:_BLAMED] if suspect.module]
    if not module.startswith(("stem", "stage", "head")):
        return None
    owner = module.removesuffix(".norm").removesuffix(".conv")
    owner = owner.rsplit(".", 1)[0] if owner.rsplit(".", 1)[-1].isdigit() else owner
    levels = owner.count(".") - 2
    return any(part.startswith(owner) or (owner.startswith(part) and part.count(".") >= levels) for part in parts)


def _structure_error(model: ReferenceModel) -> float:
    """Of the deploy form in float64, over the ordinary images."""
    ordinary = model.golden.ordinary_rows
    with torch.no_grad():
        logits = model.rewritten(model.images[ordinary].double()).numpy()
    return float(relative_error(logits, model.logits[ordinary]).max())
