"""Core ML's compute units, and what each may deviate from the float64 reference."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from runtimes.artifact import Dtype
from validation.device import budget_of
from validation.golden import Kind
from validation.reference import Floors, Reference


class Unit(StrEnum):
    """`MLComputeUnits`, by coremltools' names: what Core ML may choose from, operation by operation."""

    CPU_ONLY = "CPU_ONLY"
    CPU_AND_GPU = "CPU_AND_GPU"
    CPU_AND_NE = "CPU_AND_NE"
    ALL = "ALL"


FACTORS: Mapping[Unit, float] = {Unit.CPU_ONLY: 4.0, Unit.CPU_AND_GPU: 4.0, Unit.CPU_AND_NE: 4.0, Unit.ALL: 4.0}
"""Budget over floor. Provisional: nothing was measured on Apple's hardware.

The floor rounds every weight and every intermediate result, but adds up in float32. Units that also add up in fp16
are expected at about twice that, and the gate of a healthy runtime stands at twice what it is expected at.
"""


def unit_budgets(reference: Reference, kinds: Sequence[Kind]) -> Mapping[Unit, Floors]:
    """What each unit may deviate, by kind of input: a relative error."""
    return {unit: budget_of(reference.floors, kinds, factor) for unit, factor in FACTORS.items()}


def precision_note(reference: Reference) -> str | None:
    """What there is to know about the budgets of a float32 artifact; None for others."""
    if reference.precision.activations is not Dtype.FP32:
        return None
    return (
        "a float32 package: every unit is held to float32's budgets, because Core ML takes the types of an ML program "
        "as the least precision. The Neural Engine computes in fp16 only, so it should leave such operations to the "
        "other units; a unit that computes them in fp16 all the same is rejected"
    )
