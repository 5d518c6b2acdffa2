"""Execution: each quantized layer by itself, on the oracle's inputs. docs/numerics.md says why not end to end."""

from collections.abc import Sequence

import numpy as np

from runtimes.artifact import Format
from runtimes.precision import Dtype
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.int8.layerwise import LayerDeviation, compare_layers
from validation.trial import Trial

LARGEST_OFF = 1e-3
"""The share of a quantized layer's outputs that may be more than one unit away."""

LARGEST_ROUNDING = 1e-5
"""The largest error of a floating-point tensor between quantized layers, relative to its largest value."""

LARGEST_UNSEEN = 1 / 4
"""The share of an IR's products that may run in another kernel in a subgraph than in the whole, and so are not seen."""

_IMAGES = 4


def execution_gate(
    deviations: Sequence[LayerDeviation], other_kernels: Sequence[str] = (), products: int = 0
) -> GateResult:
    """max over tensors of (share of integers off by > 1 unit) / 1e-3, or (max error / max |value|) / 1e-5, <= 1.

    `other_kernels`: products that ran in another kernel in their subgraph than in the whole, which was not seen;
    `products`: how many there are in all.
    """

    def over(layer: LayerDeviation) -> float:
        return layer.off / LARGEST_OFF if layer.integer else layer.worst / LARGEST_ROUNDING

    if not deviations:
        return GateResult("execution", float("nan"), 1.0, "no tensor to compare")
    worst = max(deviations, key=over)
    integers = sum(layer.integer for layer in deviations)
    what = f"{worst.off:.2%} over one unit" if worst.integer else f"off by {worst.worst:.1e}"
    detail = f"worst '{worst.tensor}': {what}; {integers} quantized and {len(deviations) - integers} other tensors"
    some = ", ".join(other_kernels[:3]) + (" …" if len(other_kernels) > 3 else "")
    if len(other_kernels) > LARGEST_UNSEEN * products:
        detail = f"{len(other_kernels)} of {products} layers ran in another kernel in their subgraph: {some}"
        return GateResult("execution", float("nan"), 1.0, detail)
    warning = f"{len(other_kernels)} layers ran in another kernel in their subgraph: {some}" if other_kernels else None
    return GateResult("execution", over(worst), 1.0, detail, warning=warning)


def _applies(trial: Trial) -> bool:
    """A symmetric Q/DQ file is made for another runtime: what that makes of it is judged."""
    artifact = trial.artifact
    foreign = artifact.format == Format.ONNX and artifact.precision.activations is not Dtype.UINT8
    return artifact.precision.quantized and not foreign


def _judge(trial: Trial) -> GateResult:
    reference, batch = trial.judged, trial.artifact.batch or 1
    rows = [row for row in reference.golden.ordinary_rows if reference.judged[row]]
    found = compare_layers(trial.artifact, reference.inputs[np.resize(rows, -(-_IMAGES // batch) * batch)])
    return execution_gate(found.layers, found.other_kernels, found.products)


EXECUTION = Gate(
    name="execution",
    title="each quantized layer on the oracle's inputs",
    applies=_applies,
    judge=_judge,
    blame=Where.INTEGER_LAYERS,
)
