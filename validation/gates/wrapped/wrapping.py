"""Wrapping: what is around the network in the file is what this version puts there, and nothing else is in it."""

from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.network import wrapped_again
from validation.trial import Trial


def _judge(trial: Trial) -> GateResult:
    """The network taken out and wrapped again, compared with the file byte for byte; budget 0.

    The network is proven by itself. So no sample decides whether a file does something else on some image.
    """
    same = wrapped_again(trial.file, trial.artifact) == trial.file.sha256
    said = "the network wrapped again is this file, byte for byte"
    return GateResult(
        "wrapping", 0.0 if same else 1.0, 0.0, said if same else "the network wrapped again is another file"
    )


WRAPPING = Gate(
    name="wrapping",
    title="preprocessing and answers around the network, byte for byte",
    applies=lambda trial: trial.wrapped,
    judge=_judge,
    counts="file",
)
