"""`vit-export verify DIR`: judge an exported folder again, on this host, from the folder alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.errors import ArtifactChanged
from efficientvit.weights.source import Weights
from export.commands.recompute import recompute, weights_of
from export.device_kit.attached import NO_DEVICES, OnDevices, on_devices
from export.exits import Exit
from export.folder.accuracy import AccuracyRecord
from export.folder.exported import Exported, open_exported
from export.folder.findings import spent_when_exported, undecided
from export.folder.records import gates_of
from export.records import plain
from export.report.card import GATES, card, gate_rows
from export.request.evaluation import Evaluation, accuracy_test
from export.workers.progress import Step
from runtimes.host.threads import one_thread
from runtimes.interface import METADATA_PREFIX
from runtimes.registry import native_runtime, runtime_for
from runtimes.runtime import Evidence
from validation.accuracy.top1 import AccuracyTest
from validation.budgets import Budgets, require_compressed
from validation.int8.ranges import is_calibrated
from validation.judge import judge
from validation.metrics import relative_error
from validation.proof.equalization import require_exact
from validation.reference.reference import Reference
from validation.self_check import SelfCheck, self_check
from validation.verdict import Built, Rejected, Verdict, VerifiedArtifact, status_of, unless_vacuous


@dataclass(frozen=True, slots=True)
class Verification:
    """The new verdict on a folder, what devices reported of it, and what the manifest says of the old verdict.

    `recomputed`: by the weights at hand. `not_repeated`: what was checked when it was exported, and not now.
    `undecided`: why a budget of the export for what running takes was not decided there, nor here, where nothing is
    timed. `required`: the evidence that exit code 0 needs.
    """

    folder: Path
    verdict: Verdict
    recorded: str
    trained: bool
    fallback: bool
    devices: OnDevices = NO_DEVICES
    recomputed: bool = False
    not_repeated: tuple[str, ...] = ()
    undecided: str | None = None
    required: Evidence = Evidence.REFERENCE

    @property
    def status(self) -> str:
        """`verified`, `built`, `rejected` or `not_run`: `rejected` also where a device rejected it."""
        if self.devices.failed:
            return "rejected"
        status = status_of(self.verdict)
        return "not_run" if self.undecided is not None and status != "rejected" else status

    @property
    def evidence(self) -> Evidence | None:
        """The strongest, of this host or of a device that ran the file; None where nothing could be said here."""
        match self.verdict:
            case VerifiedArtifact(report=report):
                own = report.evidence
            case Built(report=report):
                # With the weights at hand nothing counts that was not looked into: the engine itself was not.
                own = Evidence.BUILT if self.recomputed else report.evidence
            case _:
                return None
        return max(own, self.devices.evidence or own, key=Evidence.rank)

    @property
    def exit_code(self) -> Exit:
        """As an export's exit code."""
        return self.code(self.required)

    def code(self, required: Evidence) -> Exit:
        """What it would be under this requirement."""
        if isinstance(self.verdict, Rejected) or self.devices.failed:
            return Exit.REJECTED
        enough = (self.evidence or Evidence.BUILT).at_least(required) and not self.fallback and self.undecided is None
        return Exit.OK if enough else Exit.NOT_VERIFIED

    def shortfall(self, code: Exit) -> str | None:
        """Why the exit code is 3: nothing is wrong with the artifact, and it is not enough."""
        if code is not Exit.NOT_VERIFIED:
            return None
        if self.fallback:
            return "the weights are an untrained fallback, which is no release: export with -w"
        if self.undecided is not None:
            return self.undecided
        return "the evidence that was required is not to be had on this host, and no attached device report gives it"

    def to_json(self) -> dict[str, Any]:
        """What `vit-export verify --json` prints."""
        report = self.verdict.report
        found: dict[str, Any] = plain(
            {
                "folder": str(self.folder),
                "status": self.status,
                "recorded": self.recorded,
                "reason": getattr(self.verdict, "reason", self.undecided),
                "evidence": self.evidence if report else None,
                "trained": self.trained,
                "exit_code": int(self.exit_code),
                "gates": gates_of(report.gates) if report else None,
                "accuracy": AccuracyRecord.of(report.accuracy) if report else None,
                "devices": self.devices.entries,
                "not_repeated": self.not_repeated,
            }
        )
        return found

    def _repr_html_(self) -> str:
        report = self.verdict.report
        facts = (
            f"{self.evidence} evidence, {self.required} required; when exported: {self.recorded}" if report else None,
            getattr(self.verdict, "reason", None),
            report.unproven if report else None,
            *(f"device {each.device.model}, {each.unit}: {each.status}" for each in self.devices.entries),
            None if self.trained else "untrained weights",
            *(f"not checked again: {what}" for what in self.not_repeated),
            self.shortfall(self.exit_code),
        )
        rows = gate_rows(report.gates) if report else []
        return card(str(self.folder), self.status, self.exit_code, facts, GATES, rows)


@one_thread()
def verify(
    folder: Path,
    weights: str | None = None,
    budgets: Budgets | None = None,
    step: Step = lambda _: None,
    *,
    read: Weights | None = None,
    asked: Evaluation | None = None,
    labels: str | None = None,
    skip_bad: bool = False,
    required: Evidence = Evidence.REFERENCE,
) -> Verification:
    """Judge what lies in `folder/ship` against the reference in `folder/evidence`, and the attached device reports.

    With `weights`, the checkpoint that it was exported from, against a reference that is computed from them here and
    now, budgets included: then a manifest and a reference that were forged to agree do not help either.
    `read`: the weights, where somebody has read and compared them already. `budgets`: in the place of those that the
    manifest records. `asked`: labeled images, which the weights answer too,
    named by `weights` or by the manifest; `labels` as `--labels` has them. `required`: what exit code 0 needs.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadGoldenSet: the reference is missing or was changed.
        NothingToShip: the export was rejected or failed.
        ArtifactChanged: the artifact, the golden set, the reference or a device report is not the one that the
            manifest is about.
        Refused: a device report is about another kit, or does not follow from its own outputs.
    """
    exported = open_exported(folder)
    manifest, artifact = exported.manifest, exported.artifact
    failures: Sequence[str] = manifest.self_check.failures
    unseen: Sequence[str] = manifest.self_check.unseen
    trained, fallback = manifest.weights.trained, manifest.weights.fallback
    reference = exported.reference
    if budgets is not None and budgets.quality is not None:
        require_compressed(compressed=artifact.precision.weights.compressed)
        reference = reference.with_quality_budget(budgets.quality)
    if weights is not None:
        step("weights, reference in float64, noise floors, self-check")
        loaded, reference, check = _recomputed(exported, read or weights, budgets)
        failures, unseen = check.failures, check.unseen
        trained, fallback = loaded.trained, loaded.fallback
        _require_settings(exported)
    runtime = runtime_for(artifact.format)
    labeled = None
    if asked is not None and runtime.unavailable() is None:
        accuracy = exported.budgets if budgets is None or budgets.accuracy is None else budgets
        labeled = _labeled(exported, read or weights, asked, labels, accuracy, skip_bad=skip_bad, step=step)
    step(f"judging {artifact.path.name}")
    verdict = judge(artifact, reference, runtime, exported.budgets, defaults=True, labeled=labeled)
    verdict = unless_vacuous(verdict, failures, unseen)
    measured = verdict.report is not None and verdict.report.accuracy is not None
    spent = ", ".join(result.gate for result in spent_when_exported(manifest))
    skipped = (
        *(() if measured or manifest.accuracy is None else ("accuracy on labeled images (--eval DIR)",)),
        *((f"{spent} against the export's budget (export it again)",) if spent else ()),
    )
    return Verification(
        folder,
        verdict,
        manifest.status,
        trained,
        fallback,
        on_devices(exported),
        recomputed=weights is not None,
        not_repeated=skipped,
        undecided=undecided(manifest) if isinstance(verdict, VerifiedArtifact | Built) else None,
        required=required,
    )


def _recomputed(
    exported: Exported, weights: str | Weights, budgets: Budgets | None
) -> tuple[Weights, Reference, SelfCheck]:
    """The reference that these weights give.

    Raises:
        ArtifactChanged: the weights are not the manifest's, or the reference in the folder is not theirs.
    """
    artifact, recorded = exported.artifact, exported.reference
    loaded, model = recompute(exported.folder, exported.manifest, weights, budgets)
    said = dict(artifact.interface.metadata).get(f"{METADATA_PREFIX}weights-sha256", loaded.sha256)
    if said != loaded.sha256:
        raise ArtifactChanged(
            f"the package in {exported.folder} says that it was made of other weights",
            expected=loaded.sha256,
            got=said,
            next_step="export the artifact again",
        )
    image_input = artifact.interface.image_input
    if artifact.precision.equalization:
        require_exact(model.trained, model.rewritten, artifact.precision.equalization)
    reference = model.at(artifact.precision, image_input=image_input)
    check = self_check(model, {artifact.precision}, image_input)
    if recorded.golden.sha256 == reference.golden.sha256:  # else another version made the images
        off, called = _apart(recorded, reference), model.called
        if not off <= _SAME:
            raise ArtifactChanged(
                f"the reference in {exported.folder} is not what these weights give",
                expected=f"{called} within {_SAME:.0e}",
                got=f"{called} off by {off:.1e}",
                next_step="somebody changed the folder: export again",
            )
    found = {name: digest for name, digest in recorded.constants.items() if name not in reference.constants}
    # Only calibration knows its scales and zero points; the weights know everything else.
    own = {name: digest for name, digest in found.items() if is_calibrated(name, artifact.precision)}
    return loaded, reference.with_constants(own), check


def _apart(recorded: Reference, reference: Reference) -> float:
    """How far the right answers of the two are from each other; infinite where they are not of the same outputs."""
    one, other = ({name: each.right for name, each in of.outputs.items()} for of in (recorded, reference))
    if {name: right.shape for name, right in one.items()} != {name: right.shape for name, right in other.items()}:
        return float("inf")
    return max(float(relative_error(one[name], other[name]).max()) for name in one)


def _labeled(
    exported: Exported,
    option: str | Weights | None,
    asked: Evaluation,
    labels: str | None,
    budgets: Budgets,
    *,
    skip_bad: bool,
    step: Step,
) -> AccuracyTest:
    """The labeled images, and the answers of the weights that the manifest is about.

    Raises:
        BadOption: they are somebody's file, and were not named; or the labels are not this model's.
        ArtifactChanged: the weights are not the manifest's.
        BadLabeledSet: the folder cannot be used.
    """
    loaded = weights_of(exported.folder, exported.manifest, option)
    preprocessing = exported.manifest.preprocessing.value
    names = labels if labels is not None else exported.artifact.interface.labels or None
    return accuracy_test(asked, loaded, preprocessing, names, budgets, skip_bad=skip_bad, step=step)


def _require_settings(exported: Exported) -> None:
    """The settings that ship are this version's own for such an artifact.

    Raises:
        ArtifactChanged: they are others.
    """
    assert exported.manifest.settings is not None, "open_exported hashed them"
    shipped = json.loads((exported.folder / exported.manifest.settings.shipped.path).read_text("utf-8"))
    own = json.loads(json.dumps(dict(native_runtime(exported.artifact.format).shipped_settings(exported.artifact))))
    if shipped != own:
        raise ArtifactChanged(
            f"the runtime settings in {exported.folder} are not those that such an artifact ships with",
            expected=json.dumps(own),
            got=json.dumps(shipped),
            next_step="export the artifact again",
        )


_SAME = 1e-9
"""Between hosts float64 differs by its roundings."""
