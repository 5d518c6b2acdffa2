"""What a manifest says that people ask first: how near to a budget, what was not checked, why it may not ship."""

from collections.abc import Iterator, Mapping
from typing import Any

from export.folder.device_entry import failure, latest
from export.folder.manifest import PASSED, Manifest
from export.folder.nearest import Nearest, nearest
from export.folder.records import GateRecord
from export.records import plain
from runtimes.runtime import Evidence
from validation.gates import table
from validation.gates.identity import unproven
from validation.gates.result import GateResult


def nearest_of(manifest: Manifest) -> Nearest | None:
    """What `nearest` shows of the last stage; None where it could not be run."""
    return nearest(plain(manifest.stages[-1].verdict.gates))


def unproven_of(manifest: Mapping[str, Any]) -> str | None:
    """What to say of an artifact that passed, by its document, where its format's reader gives no program to prove."""
    return unproven(manifest["stages"][-1]["verdict"]["gates"], manifest["golden"]["images"])


def unchecked(manifest: Manifest) -> Iterator[str]:
    """What this export did not look into, a sentence each."""
    verdict, golden = manifest.stages[-1].verdict, manifest.golden
    if verdict.remedy and verdict.reason:
        yield f"{verdict.reason}. Next: {verdict.remedy}"
    if (said := unproven(plain(verdict.gates), golden.images)) is not None:
        yield said.replace("program", "Program", 1)
    if verdict.evidence in (Evidence.REFERENCE, Evidence.VENDOR) and not manifest.devices:
        yield "No device has run it"
    if golden.not_judged:
        yield f"Images on which the model is chaotic: {', '.join(golden.not_judged)}"
    if golden.skipped:
        yield f"Photos that could not be read: {', '.join(golden.skipped)}"
    if not any(kind == "photo" and count for kind, count in golden.kinds.items()):
        yield "Photos: none were given"
    if manifest.accuracy is None:
        yield "Accuracy on labeled images"
    elif manifest.accuracy.skipped:
        yield f"Labeled images that could not be read: {', '.join(manifest.accuracy.skipped)}"
    if not manifest.timing.measured:
        yield f"Latency: {manifest.timing.reason}"


def spent_when_exported(manifest: Manifest) -> list[GateResult]:
    """What the last stage's file took when it ran, against the budgets for it: only the export measures that."""
    gates = manifest.stages[-1].verdict.gates
    found = ((gate.name, gates.get(gate.name)) for gate in table.GATES if gate.spends)
    return [
        GateResult(name, float(each.worst), float(each.budget), f"when exported, {each.detail}", warning=each.warning)
        for name, each in found
        if each is not None
    ]


def undecided(manifest: Manifest) -> str | None:
    """Why a file that passed every gate was not called verified: it took an unknown part of a budget."""
    last = manifest.stages[-1].verdict
    return last.reason if last.undecided else None


def not_passed(manifest: Manifest) -> Iterator[str]:
    """Why the artifact may not be released, by all that the manifest says: nothing where it passed."""
    last = manifest.stages[-1]
    if manifest.status not in PASSED or manifest.artifact is None:
        yield f"its verdict is {manifest.status}"
    if manifest.exit_code != 0:
        yield f"its export exited with code {manifest.exit_code}"
    if manifest.weights.fallback:
        yield "its weights are an untrained fallback"
    if manifest.self_check.vacuous:
        yield f"parity on its weights is vacuous: {'; '.join(manifest.self_check.failures)}"
    if last.artifact is None or last.artifact.path != manifest.artifact:
        made = last.artifact and last.artifact.path
        yield f"what ships is {manifest.artifact}, and its last stage made {made or 'no file'}"
    if last.verdict.status != manifest.status:
        yield f"its status is {manifest.status}, and its last stage was {last.verdict.status}"
    if last.verdict.evidence is None or not last.verdict.evidence.at_least(manifest.evidence_required):
        yield f"{last.verdict.evidence or 'no'} evidence, where {manifest.evidence_required} is required"
    for stage in manifest.stages:
        failed = [name for name, gate in stage.verdict.gates.items() if _over(gate)]
        if failed:
            yield f"stage '{stage.name}' is over budget: {', '.join(failed)}"
        elif stage.verdict.status == "rejected":
            yield f"stage '{stage.name}' was rejected"
    for entry in latest(manifest.devices):
        if (why := failure(entry)) is not None:
            status = "rejected" if entry.status == "passed" else entry.status  # whose picture is off
            yield f"{entry.device.model} {status} it on {entry.unit}{'' if why == status else f': {why}'}"


def _over(gate: GateRecord | None) -> bool:
    return gate is not None and not gate.passed
