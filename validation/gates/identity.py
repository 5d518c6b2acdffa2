"""Identity: the file's program equals the deploy form's on every input, in exact arithmetic."""

from collections.abc import Mapping
from typing import Any

from runtimes.registry import reader_of
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.proof.outcome import NO_PROGRAM, Outcome
from validation.trial import Trial


def _applies(trial: Trial) -> bool:
    """The format's reader gives a program."""
    return reader_of(trial.artifact).has_program


def _judge(trial: Trial) -> GateResult:
    """0 where it is proven; a program that differs, or could only be sampled, counts 1: budget 0."""
    proof = trial.proof
    error = 0.0 if proof.outcome is Outcome.PROVEN else 1.0
    return GateResult("identity", error, 0.0, f"{proof.outcome}: {proof.detail}")


def not_proven(images: int) -> str:
    """What to say of a file that passed without being asked this."""
    return f"program not proven: {NO_PROGRAM}; {images} images are all that was checked"


def unproven(gates: Mapping[str, Mapping[str, Any] | None], images: int) -> str | None:
    """The same by a verdict's gates as a manifest has them; None where the program was looked at, or nothing passed."""
    tried = [gate for gate in gates.values() if gate is not None]
    asked = gates.get("identity", tried) is not None  # one of before this gate says nothing of it
    return None if asked or not tried or not all(gate["passed"] for gate in tried) else not_proven(images)


IDENTITY = Gate(
    name="identity",
    title="the file's program with the deploy form's, on every input",
    applies=_applies,
    judge=_judge,
    blame=Where.LAYERS,
    counts="unproven",
    foreign=True,
)
