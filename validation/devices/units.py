"""The ways in which a device runs an artifact, by format, and what each may deviate from the float64 reference.

Core ML and Core AI have their compute units. An engine has the products of NVIDIA's that can run what it was built
from: an engine is locked to its product, its version and its GPUs, so that one product's says nothing for the other's.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from runtimes.artifact import Format
from runtimes.precision import Dtype
from runtimes.runtime import Attestation
from runtimes.tensorrt.api import ENTERPRISE, RTX
from validation.devices.cases import budget_of, costs_of_ignoring
from validation.inputs.golden_set import Kind
from validation.reference.floors import Floors
from validation.reference.reference import Reference


class Unit(StrEnum):
    """`MLComputeUnits`, by coremltools' names: what Core ML may choose from, operation by operation."""

    CPU_ONLY = "CPU_ONLY"
    CPU_AND_GPU = "CPU_AND_GPU"
    CPU_AND_NE = "CPU_AND_NE"
    ALL = "ALL"


class CoreAiUnit(StrEnum):
    """`SpecializationOptions`, as an app makes them: two presets, and two compute units to prefer.

    A preference forbids nothing: what the preferred unit cannot do, another does. Only `cpuOnly` restricts.
    """

    DEFAULT = "default"
    CPU_ONLY = "cpuOnly"
    GPU = "gpu"
    NEURAL_ENGINE = "neuralEngine"


class EngineUnit(StrEnum):
    """TensorRT for RTX, which builds ahead of time; enterprise TensorRT, which builds on the host that runs it."""

    RTX = "RTX"
    ENTERPRISE = "ENTERPRISE"


PRODUCTS: Mapping[str, str] = {EngineUnit.RTX: RTX, EngineUnit.ENTERPRISE: ENTERPRISE}
"""By unit, the product as manifests name it."""

FACTORS: Mapping[Format, Mapping[str, float]] = {
    Format.COREML: {str(unit): 4.0 for unit in Unit},
    Format.COREAI: {str(unit): 4.0 for unit in CoreAiUnit},
    Format.ENGINE: {str(unit): 4.0 for unit in EngineUnit},
}
"""Budget over floor, by format and unit. Provisional: nothing was measured on Apple's hardware, or on a GPU.

The floor rounds every weight and every intermediate result, but adds up in float32. Units that also add up in fp16
are expected at about twice that, and the gate of a healthy runtime stands at twice what it is expected at.
"""


def unit_budgets(file_format: Format, reference: Reference, kinds: Sequence[Kind]) -> Mapping[str, Floors]:
    """What each unit may deviate, by kind of input: a relative error.

    Quantized activations have no noise floor. There the quality budget holds for all images together, and this is what
    it would let through alone: one image may not cost what an answer costs that ignores the image.
    """
    if reference.precision.quantized:
        return dict.fromkeys(FACTORS[file_format], costs_of_ignoring(reference, kinds))
    return {
        unit: budget_of(reference.classifier.floors, kinds, factor) for unit, factor in FACTORS[file_format].items()
    }


_CORE_AI_ON_THE_CPU = 4.0
"""The same of Apple's Core AI runtime off the device: it adds up products of matrices in fp16 (a row of 4096 ones gives
2048), convolutions and sums in float32."""


def factor_of(attestation: Attestation) -> float | None:
    """Budget over floor of the unit that ran; None where the floor's arithmetic is the runtime's."""
    if attestation.runtime == "coreai":
        return _CORE_AI_ON_THE_CPU
    if attestation.runtime == "coreml":
        return FACTORS[Format.COREML][attestation.settings["compute_units"]]
    if attestation.runtime == "tensorrt":
        (unit,) = (unit for unit, product in PRODUCTS.items() if product == attestation.settings["product"])
        return FACTORS[Format.ENGINE][unit]
    return None


def precision_note(file_format: Format, reference: Reference) -> str | None:
    """What there is to know about the budgets; None where they are four noise floors and no more."""
    match file_format:
        case Format.ENGINE:
            return _engine_note(reference)
        case Format.COREAI:
            return _coreai_note(reference)
        case _:
            return _coreml_note(reference)


def _coreml_note(reference: Reference) -> str | None:
    if reference.precision.activations is not Dtype.FP32:
        return None
    return (
        "a float32 package: every unit is held to float32's budgets, because Core ML takes the types of an ML program "
        "as the least precision. The Neural Engine computes in fp16 only, so it should leave such operations to the "
        "other units; a unit that computes them in fp16 all the same is rejected"
    )


def _coreai_note(reference: Reference) -> str | None:
    if reference.precision.activations is not Dtype.FP32:
        return None
    return (
        "a float32 asset: every unit is held to float32's budgets. The Neural Engine computes in fp16 only, so Core AI "
        "should leave such operations to the other units; a unit that computes them in fp16 all the same is rejected"
    )


def _engine_note(reference: Reference) -> str:
    if reference.precision.quantized:
        return (
            "an int8 engine is compared with the trained model itself, quantization included, because integers that "
            "tip over have no noise floor: the root mean square of all errors is held to the quality budget, and no "
            "single image may cost what an answer costs that ignores the image. That an engine is within it says that "
            "it is good enough, not that every kernel computes as the network says"
        )
    provisional = "the budgets are four noise floors, and provisional: nothing was measured on a GPU"
    if reference.precision.activations is not Dtype.FP32:
        return provisional
    return f"{provisional}. TF32 is switched off when an engine is built, so that float32's budgets hold"
