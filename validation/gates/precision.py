"""Precision: the arithmetic that ships, against the trained form in float64."""

from collections.abc import Sequence

from validation.devices.units import factor_of
from validation.gates.gate import Gate, Where
from validation.gates.numeric import numeric_gate
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.reference.floors import Floors, ordinary
from validation.reference.reference import Reference
from validation.trial import Trial, Tried


def precision_gate(reference: Reference, runs: Sequence[Outputs], factor: float | None = None) -> GateResult:
    """‖y - y64‖ / ‖y64 - mean(y64)‖ per ordinary image <= factor x noise floor of the precision, per kind.

    The factor is 4 for float32 and 2 for 16 bits, or `factor`, where a device has one of its own.
    """
    floors = ordinary(reference.floors)
    budgets: Floors = {
        kind: reference.precision_budget(kind) if factor is None else factor * floor for kind, floor in floors.items()
    }
    return numeric_gate("precision", reference, reference.executed, runs, floors, budgets)


def judge_precision(trial: Trial, tried: Tried) -> GateResult:
    """Of these runs, on the images that both they and the shipped runs could take."""
    return precision_gate(trial.judged.only(tried.fed), tried.outputs, factor_of(trial.shipped.attestation))


PRECISION = Gate(
    name="precision",
    title="the answers under the settings that ship",
    applies=lambda trial: not trial.artifact.precision.quantized,
    judge=lambda trial: judge_precision(trial, trial.shipped),
    blame=Where.LAYERS_AS_SHIPPED,
)
