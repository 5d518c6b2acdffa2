"""Identity: the file's program equals the deploy form's on every input, in exact arithmetic."""

from collections.abc import Mapping

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


def not_proven(gates: Mapping[str, object], images: int) -> str | None:
    """What to say of a file that passed all of `gates`, by name, on `images`: nothing where it was asked this one."""
    if gates.get("identity", ...) is not None:  # where the name is missing, it was not known yet
        return None
    return f"program not proven: {NO_PROGRAM}; {images} images are all that was checked"


IDENTITY = Gate(
    name="identity",
    title="the file's program with the deploy form's, on every input",
    applies=_applies,
    judge=_judge,
    blame=Where.LAYERS,
    counts="unproven",
    foreign=True,
)
