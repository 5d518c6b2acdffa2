"""Interface: names, types and shapes of inputs and outputs, labels and metadata are what the manifest says."""

from collections.abc import Mapping

from efficientvit.errors import VitExportError
from runtimes.interface import Ports, intended_ports
from runtimes.registry import read_metadata
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.trial import Trial


def interface_gate(
    found: Ports,
    intended: Ports,
    metadata: Mapping[str, str] | None = None,
    intended_metadata: Mapping[str, str] | None = None,
) -> GateResult:
    """Ports and metadata entries that differ; budget 0.

    An app feeds inputs and reads outputs by name. Metadata traces a package in an app to its weights.
    """
    wrong = [
        f"{what} {', '.join(map(str, got)) or 'none'} in place of {', '.join(map(str, meant))}"
        for what, got, meant in zip(("inputs", "outputs"), found, intended, strict=True)
        if got != meant
    ]
    said, meant_to_say = metadata or {}, intended_metadata or {}
    wrong += [
        f"metadata '{key}' is '{said.get(key, '')}' in place of '{meant_to_say.get(key, '')}'"
        for key in sorted({*said, *meant_to_say})
        if said.get(key, "") != meant_to_say.get(key, "")
    ]
    return GateResult("interface", float(len(wrong)), 0.0, "; ".join(wrong) or "as intended")


def unreadable(error: VitExportError) -> GateResult:
    """A file that contradicts itself or that no reader here supports."""
    return GateResult("interface", 1.0, 0.0, "; ".join(line.strip() for line in str(error).splitlines()))


def _judge(trial: Trial) -> GateResult:
    artifact = trial.file
    intended = intended_ports(artifact.model, artifact.batch, artifact.interface)
    return interface_gate(trial.ports, intended, read_metadata(artifact), dict(artifact.interface.metadata))


INTERFACE = Gate(
    name="interface",
    title="names, types and shapes of inputs and outputs, labels and metadata",
    applies=lambda _: True,
    judge=_judge,
    counts="port",
)
