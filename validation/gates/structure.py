"""Structure: the file's own graph in float32 arithmetic. A fault stands out here that fp16's rounding would hide."""

from collections.abc import Sequence

from validation.gates.gate import Gate, Where
from validation.gates.numeric import numeric_gate
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.reference.reference import Reference


def structure_gate(reference: Reference, runs: Sequence[Outputs]) -> GateResult:
    """‖y - y64‖ / ‖y64 - mean(y64)‖ per image <= 4 x float32 floor, per kind; y64: the same stored weights in float64.

    Amplified inputs are judged here, and here only.
    """
    floors = reference.structure_floors
    budgets = {kind: reference.structure_budget(kind) for kind in floors}
    return numeric_gate("structure", reference, reference.structure, runs, floors, budgets)


STRUCTURE = Gate(
    name="structure",
    title="the file's graph and stored weights in float32 arithmetic",
    applies=lambda _: True,
    judge=lambda trial: structure_gate(trial.judged, trial.oracle.outputs),
    blame=Where.LAYERS,
)
