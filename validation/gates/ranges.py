"""Ranges: the range to which each int8 activation was calibrated, against what golden images reach there."""

from collections.abc import Mapping

from runtimes.artifact import Format
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.int8.ranges import calibrated_ranges
from validation.trial import Trial

RANGE_FACTOR = 8.0
"""A calibrated range may be this many times wider or narrower than what the golden images reach."""


def range_ratio(reached: tuple[float, float]) -> float:
    """How far a calibrated range is from the largest magnitude that is reached: at least 1."""
    calibrated, largest = reached
    if not (0 < calibrated < float("inf") and largest < float("inf")):
        return float("inf")
    return max(largest / calibrated, calibrated / largest) if largest > 0 else 1.0


def ranges_gate(reached: Mapping[str, tuple[float, float]]) -> GateResult:
    """max(reached / calibrated, calibrated / reached) <= 8 over tensors; `reached`: tensor -> (calibrated, reached).

    Calibration uses other images, so a range need not be exact; one that is far off clips, or wastes its integers.
    """
    if not reached:
        return GateResult("ranges", float("nan"), RANGE_FACTOR, "no quantized activation")
    worst = max(reached, key=lambda tensor: range_ratio(reached[tensor]))
    calibrated, largest = reached[worst]
    detail = f"'{worst}' is calibrated to {calibrated:.4g} and reaches {largest:.4g}; {len(reached)} tensors"
    return GateResult("ranges", range_ratio(reached[worst]), RANGE_FACTOR, detail)


def _applies(trial: Trial) -> bool:
    """A network's scales were judged in the ONNX file that it was parsed from."""
    return trial.artifact.precision.quantized and trial.artifact.format in (Format.ONNX, Format.OPENVINO)


RANGES = Gate(
    name="ranges",
    title="calibrated ranges of int8 activations",
    applies=_applies,
    judge=lambda trial: ranges_gate(
        calibrated_ranges(trial.artifact, trial.reference.inputs[trial.reference.golden.ordinary_rows])
    ),
    blame=Where.QUANTIZERS,
)
