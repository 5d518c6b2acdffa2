"""Precision: the arithmetic that ships, against the trained form in float64."""

from collections.abc import Iterator, Sequence

from validation.devices.units import factor_of
from validation.gates.gate import Gate, Where
from validation.gates.numeric import Comparison, numeric_gate
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.reference.floors import ordinary
from validation.reference.reference import Reference
from validation.trial import Trial, Tried


def precision_gate(reference: Reference, runs: Sequence[Outputs], factor: float | None = None) -> GateResult:
    """‖y - y64‖ / ‖y64 - mean(y64)‖ per ordinary image <= factor x noise floor of the precision, per kind.

    The factor is 4 for float32 and 2 for 16 bits, or `factor`, where a device has one of its own.
    """
    return numeric_gate("precision", reference, list(_outputs(reference, factor)), runs)


def _outputs(reference: Reference, factor: float | None) -> Iterator[Comparison]:
    for name, each in reference.outputs.items():
        floors = ordinary(each.floors)
        budgets = {k: each.precision_budget(k) if factor is None else factor * floor for k, floor in floors.items()}
        yield Comparison(name, each.executed, floors, budgets)


def judge_precision(trial: Trial, tried: Tried) -> GateResult:
    """Of these runs, on the images that both they and the shipped runs could take."""
    return precision_gate(trial.judged.only(tried.fed), tried.outputs, factor_of(trial.shipped.attestation))


PRECISION = Gate(
    name="precision",
    title="the answers under the settings that ship",
    applies=lambda trial: not trial.artifact.precision.quantized,
    judge=lambda trial: judge_precision(trial, trial.shipped),
    blame=Where.LAYERS_AS_SHIPPED,
    foreign=True,
)
