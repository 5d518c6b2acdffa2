"""`vit-export judge MODEL -w CKPT FILE`: the verdict on a file that somebody else's tool made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from efficientvit.errors import BadInput, Unavailable
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.reading import AS_IT_IS, Reading
from efficientvit.weights.source import Weights, find_weights
from export.exits import Exit
from export.folder.accuracy import AccuracyRecord
from export.folder.layout import MANIFEST
from export.folder.records import BlameRecord, PortRecord, PrecisionRecord, gates_of
from export.records import plain
from export.report.card import GATES, card, gate_rows
from export.request.evaluation import Evaluation, accuracy_test
from export.workers.progress import Step
from runtimes.external import Foreign, open_foreign
from runtimes.host.threads import one_thread
from runtimes.runtime import Evidence
from validation.blame.artifact import blame_artifact
from validation.blame.ranking import Blame
from validation.budgets import Budgets, require_compressed
from validation.external.input_format import Range, Scores, network_input
from validation.external.judge import ANOTHERS, ForeignVerdict, judge_foreign
from validation.inputs.photos import golden_images
from validation.self_check import SelfCheck, self_check
from validation.verdict import Rejected, status_of


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of the file; `blame` where it was rejected by its answers; the evidence that exit code 0 needs."""

    foreign: Foreign
    weights: Weights
    check: SelfCheck
    found: ForeignVerdict
    blame: Blame | None
    required: Evidence = Evidence.REFERENCE

    @property
    def exit_code(self) -> Exit:
        """As an export's exit code."""
        return self.code(self.required)

    def code(self, required: Evidence) -> Exit:
        """What it would be under this requirement."""
        verdict = self.found.verdict
        if isinstance(verdict, Rejected):
            return Exit.REJECTED
        enough = verdict.report.evidence.at_least(required) and not self.vacuous
        return Exit.OK if enough else Exit.NOT_VERIFIED

    @property
    def vacuous(self) -> tuple[str, ...]:
        """Why the verdict means too little; of a proven program, samples need not show everything."""
        return self.check.failures if self.found.verdict.report.proven else self.check.by_samples

    def to_json(self) -> dict[str, Any]:
        """What `vit-export judge --json` prints."""
        foreign, found, weights = self.foreign, self.found, self.weights
        artifact, report = foreign.artifact, found.verdict.report
        layout = "NHWC" if foreign.channels_last else "NCHW"
        document: dict[str, Any] = plain(
            {
                "file": str(artifact.path),
                "sha256": artifact.sha256,
                "format": artifact.format,
                "model": {"name": artifact.model.name, "image_size": artifact.model.image_size.to_json()},
                "batch": "dynamic" if artifact.batch is None else artifact.batch,
                "input": PortRecord.of(foreign.image, layout),
                "output": PortRecord.of(foreign.output),
                "range": found.taken.range,
                "range_recognized": found.taken.recognized,
                "scores": found.taken.scores,
                "precision": PrecisionRecord.of(artifact.precision),
                "weights": {"source": weights.source, "sha256": weights.sha256, "trained": weights.trained},
                "vacuous": self.vacuous,
                "status": status_of(found.verdict),
                "evidence": report.evidence,
                "gates": gates_of(report.gates),
                "accuracy": AccuracyRecord.of(report.accuracy),
                "notes": found.notes,
                "blame": BlameRecord.of("judge", self.blame),
                "exit_code": int(self.exit_code),
            }
        )
        return document

    def _repr_html_(self) -> str:
        verdict, report = self.found.verdict, self.found.verdict.report
        vacuous = f"parity on these weights is vacuous: {'; '.join(self.vacuous)}" if self.vacuous else None
        facts = (
            f"{report.evidence} evidence, {self.required} required",
            getattr(verdict, "reason", None),
            vacuous,
            None if self.weights.trained else "untrained weights",
            *self.found.notes,
            *(map(str, self.blame.suspects[:3]) if self.blame else ()),
        )
        rows = gate_rows(report.gates)
        return card(str(self.foreign.artifact.path), status_of(verdict), self.exit_code, facts, GATES, rows)


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How a file is to be judged, as the command line's options have it.

    `image_range`: what it takes; None: what fits best. `golden`: a folder of photos beside the synthetic images.
    `preprocessing`: mean and std by name. `evaluation`: labeled images, their classes named by `labels`.
    `required`: what exit code 0 needs.
    """

    image_range: Range | None = None
    scores: Scores = Scores.LOGITS
    golden: Path | None = None
    skip_bad: bool = False
    reading: Reading = AS_IT_IS
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    evaluation: Evaluation | None = None
    labels: str | None = None
    required: Evidence = Evidence.REFERENCE


@one_thread()
def judge_file(
    model: str,
    weights_option: str,
    path: Path,
    options: JudgeOptions | None = None,
    step: Step = lambda _: None,
) -> Judged:
    """Judge the file at `path` by the checkpoint alone.

    Raises:
        BadInput: the weights, the photos or the file cannot be used.
        Unavailable: the weights cannot be had, or the file not be run here.
        BrokenArtifact, StageFailed: the file cannot be read or run.
    """
    from validation.reference.model import ReferenceModel

    step("weights")
    options = options or JudgeOptions()
    reading = options.reading
    known = find_weights(weights_option, model, None, reading=replace(reading, any_size=True))
    foreign = _opened(path, model, known)
    if options.budgets.quality is not None:
        require_compressed(compressed=foreign.artifact.precision.weights.compressed)
    size = foreign.artifact.model.image_size
    weights = (
        known
        if known.model.spec.image_size == size
        else find_weights(weights_option, model, size, reading=replace(reading, override=True))
    )
    contract = preprocessing_of(size, weights.facts, options.preprocessing, override=reading.override)
    step("reference in float64, noise floors, self-check")
    images = golden_images(options.golden, contract, options.skip_bad)
    images = images.with_pixels() if foreign.takes_bytes else images
    reference = ReferenceModel(weights.model, images, options.budgets)
    check = self_check(reference, {foreign.artifact.precision})

    def verdict_by(weights: Weights, reference: ReferenceModel) -> ForeignVerdict:
        labeled = None
        if (asked := options.evaluation) is not None:
            labeled = accuracy_test(
                asked, weights, contract, options.labels, options.budgets, skip_bad=options.skip_bad, step=step
            )
        step(f"judging {path.name}")
        return judge_foreign(foreign, reference, options.image_range, options.scores, labeled)

    found = verdict_by(weights, reference)
    if isinstance(found.verdict, Rejected) and (other := _other_weights(weights_option, weights, options)) is not None:
        step("the checkpoint's other weights: reference in float64")
        by_others = verdict_by(other, ReferenceModel(other.model, images, options.budgets))
        if not isinstance(by_others.verdict, Rejected):
            what = "the running average in the checkpoint" if other.average else "the weights, not their average"
            said = f"it was made of {what}: {'with' if other.average else 'without'} --ema it passes"
            found = replace(found, notes=(said, *(note for note in found.notes if note != ANOTHERS)))
    blame = None
    rejected = isinstance(found.verdict, Rejected) and found.verdict.report.attestation is not None
    if rejected and foreign.artifact.precision.quantized:
        blame = Blame((), note="of a quantized file no layer can be blamed: judge the float file that it was made of")
    elif rejected:
        step("looking for the layer to blame")
        feed = network_input(foreign, reference, found.taken)
        gates = found.verdict.report.gates
        blame = blame_artifact(foreign.artifact, reference, gates, feed=feed, output=foreign.output.name)
    return Judged(foreign, weights, check, found, blame, options.required)


def _other_weights(option: str, weights: Weights, options: JudgeOptions) -> Weights | None:
    """The running average beside the weights, or the weights beside it; None where the checkpoint has one of them."""
    reading = replace(options.reading, ema=not weights.average, override=True)
    try:
        other = find_weights(option, weights.model.spec.name, weights.model.spec.image_size, reading=reading)
    except (BadInput, Unavailable):
        return None
    return other if other.average is not weights.average else None


def _opened(path: Path, model: str, weights: Weights) -> Foreign:
    """The file, if it is a bare classifier. One that takes photos, of a folder of ours, is judged with that folder."""
    spec = weights.model.spec
    try:
        return open_foreign(path, model, spec.classes, spec.image_size)
    except BadInput as error:
        folder = path.parent.parent
        if not (folder / MANIFEST).is_file():
            raise
        said = f"it lies in a folder of an export: `vit-export verify {folder}` judges it, and all around its network"
        raise BadInput(error.what, expected=error.expected, got=error.got, next_step=said) from error
