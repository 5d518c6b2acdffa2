"""Identity: the file's program equals the deploy form's on every input, in exact arithmetic."""

from runtimes.reader import Reader
from runtimes.registry import reader_of
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.trial import Trial


def _applies(trial: Trial) -> bool:
    """The format's reader gives a program."""
    return type(reader_of(trial.artifact)).program is not Reader.program


def _judge(trial: Trial) -> GateResult:
    """0 where it is proven; a program that differs, or could only be sampled, counts 1: budget 0."""
    from validation.proof.outcome import Outcome

    proof = trial.proof
    error = 0.0 if proof.outcome is Outcome.PROVEN else 1.0
    return GateResult("identity", error, 0.0, f"{proof.outcome}: {proof.detail}")


IDENTITY = Gate(
    name="identity",
    title="the file's program with the deploy form's, on every input",
    applies=_applies,
    judge=_judge,
    blame=Where.LAYERS,
    counts="unproven",
)
