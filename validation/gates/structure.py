"""Structure: the file's own graph in float32 arithmetic. A fault stands out here that fp16's rounding would hide."""

from collections.abc import Sequence

from validation.gates.gate import Gate, Where
from validation.gates.numeric import Comparison, numeric_gate
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.reference.reference import Reference


def structure_gate(reference: Reference, runs: Sequence[Outputs]) -> GateResult:
    """‖y - y64‖ / ‖y64 - mean(y64)‖ per image <= 4 x float32 floor, per kind; y64: the same stored weights in float64.

    Amplified inputs are judged here, and here only.
    """
    outputs = [
        Comparison(
            name, each.structure, each.structure_floors, {k: each.structure_budget(k) for k in each.structure_floors}
        )
        for name, each in reference.outputs.items()
    ]
    return numeric_gate("structure", reference, outputs, runs)


STRUCTURE = Gate(
    name="structure",
    title="the file's graph and stored weights in float32 arithmetic",
    applies=lambda _: True,
    judge=lambda trial: structure_gate(trial.judged, trial.oracle.outputs),
    blame=Where.LAYERS,
    foreign=True,
)
