"""`vit-export explain DIR`: which stage of an export is at fault, and which layer of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BadOption, Unavailable
from export.commands.recompute import recompute
from export.exits import Exit
from export.folder.exported import artifact_of, read_manifest
from export.folder.findings import spent_when_exported
from export.folder.manifest import Manifest
from export.folder.records import BlameRecord, LayerRecord, gates_of
from export.records import plain
from export.report.card import GATES, card, gate_rows
from export.targets.registry import SHARED
from export.workers.progress import Step
from runtimes.artifact import Artifact
from runtimes.host.threads import one_thread
from runtimes.precision import Dtype
from runtimes.registry import runtime_for
from validation.blame.artifact import blame_artifact
from validation.blame.ranking import Blame
from validation.blame.rewrite import blame_rewrite
from validation.budgets import Budgets
from validation.gates.result import GateResult
from validation.gates.rewrite import proof_gates, rewrite_gates
from validation.int8.ranges import with_calibration
from validation.judge import judge
from validation.reference import file

if TYPE_CHECKING:
    from validation.reference.model import ReferenceModel

REWRITE = "rewrite"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A stage of a folder's export, its gates, and the blame."""

    folder: Path
    stage: str
    rejected: bool
    gates: tuple[GateResult, ...]
    blame: Blame

    @property
    def exit_code(self) -> Exit:
        """1 where the stage is rejected."""
        return Exit.REJECTED if self.rejected else Exit.OK

    def to_json(self) -> dict[str, Any]:
        """What `vit-export explain --json` prints."""
        found: dict[str, Any] = plain(
            {
                "folder": str(self.folder),
                "rejected": self.rejected,
                "gates": gates_of(self.gates),
                "blame": BlameRecord.of(self.stage, self.blame),
                "layers": [LayerRecord.from_attributes(layer) for layer in self.blame.layers],
            }
        )
        return found

    def _repr_html_(self) -> str:
        verdict = "rejected" if self.rejected else "within budget"
        suspects = (f"{place}. {suspect}" for place, suspect in enumerate(self.blame.suspects, 1))
        title, facts = f"stage {self.stage} of {self.folder}", (self.blame.note, *suspects)
        return card(title, verdict, self.exit_code, facts, GATES, gate_rows(self.gates))


@one_thread()
def explain(folder: Path, stage: str | None, weights: str | None, step: Step = lambda _: None) -> Explanation:
    """Look into `stage`, or into the one that the export was rejected at, or else into the last.

    A folder keeps the file of one stage: the one that ships, or the one that was rejected. Besides it the rewrites from
    the trained to the deploy form can be looked into, which need no file.

    Raises:
        BadFolder: no folder that an export made.
        BadOption: there is no such stage, or its file was not kept; or the weights' file has to be named.
        ArtifactChanged: the weights or the file are not those of the manifest.
    """
    manifest = read_manifest(folder)
    stages = [each.name for each in manifest.stages]
    image_input = manifest.coreml is not None and manifest.coreml.input == "image"
    chosen = stage or stages[-1]
    if chosen not in (REWRITE, stages[-1]):
        known = chosen in stages
        raise BadOption(
            f"the file of stage '{chosen}' was not kept" if known else f"there was no stage '{chosen}'",
            expected=" or ".join(dict.fromkeys((REWRITE, stages[-1]))),
            got=chosen,
            next_step="its gates are in the manifest; it passed them" if known else "leave --stage out",
        )
    artifact = None if chosen == REWRITE else artifact_of(folder, manifest)
    step("weights, reference in float64, noise floors")
    _, model = recompute(folder, manifest, weights, _budgets(folder))
    step(f"looking into stage '{chosen}'")
    if artifact is None:
        gates: tuple[GateResult, ...] = (*rewrite_gates(model, image_input=image_input), *proof_gates(model))
        wrong = not all(gate.passed for gate in gates)
        return Explanation(
            folder,
            chosen,
            wrong,
            gates,
            blame_rewrite(model, image_input=image_input) if wrong else Blame((), note=_FINE),
        )
    gates = (*_gates(artifact, model, manifest), *spent_when_exported(manifest))
    return Explanation(
        folder, chosen, not all(gate.passed for gate in gates), gates, blame_artifact(artifact, model, gates)
    )


_FINE = "every rewrite is exact"


def _budgets(folder: Path) -> Budgets:
    """What the export was asked to keep to."""
    evidence = folder / "evidence"
    held = (evidence / file.REFERENCE).exists()
    if not held:
        return Budgets()
    # A budget that was asked for holds for every output; a default one is each output's own.
    found = {each.quality_budget for each in file.load(evidence).outputs.values()}
    return Budgets(quality=found.pop() if len(found) == 1 else None)


def _gates(artifact: Artifact, model: "ReferenceModel", manifest: Manifest) -> tuple[GateResult, ...]:
    """What the file itself fails, now and here."""
    reference = with_calibration(model.at(artifact.precision, image_input=artifact.interface.image_input), artifact)
    others = manifest.tensorrt is not None or artifact.precision.activations is Dtype.SYMMETRIC8
    ships = manifest.stages[-1].name in SHARED or not others
    runtime = runtime_for(artifact.format, ships=ships)
    verdict = judge(artifact, reference, runtime, manifest.budgets)
    if verdict.report is None:
        raise Unavailable(f"{artifact.path.name} cannot be judged here", got=getattr(verdict, "reason", None))
    return verdict.report.gates
