"""Overflow: every intermediate result fits into float16, where arithmetic is float16 and tensors can be watched."""

from runtimes.precision import Dtype
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.golden_run import Peak
from validation.metrics import LARGEST_HALF
from validation.trial import Trial

_NEAR = LARGEST_HALF / 4


def overflow_gate(ordinary: Peak, amplified: Peak | None) -> GateResult:
    """max |tensor| in float32 arithmetic <= 65504; a warning from a quarter of it. Amplified inputs only warn."""
    near = [
        str(peak)
        for peak in (ordinary, amplified)
        if peak is not None and not peak.value <= _NEAR and (peak is amplified or peak.value <= LARGEST_HALF)
    ]
    warning = f"near float16's limit: {'; '.join(near)}" if near else None
    return GateResult("overflow", ordinary.value, LARGEST_HALF, str(ordinary), warning=warning)


def _judge(trial: Trial) -> GateResult:
    peaks = trial.oracle.peaks
    assert peaks.ordinary is not None
    return overflow_gate(peaks.ordinary, peaks.amplified)


OVERFLOW = Gate(
    name="overflow",
    title="the largest magnitude of every intermediate result",
    applies=lambda trial: (
        trial.artifact.precision.activations is Dtype.FP16 and trial.oracle.peaks.ordinary is not None
    ),
    judge=_judge,
    blame=Where.LAYERS_AS_SHIPPED,
    whole=True,
    next_step="float16 cannot hold what this model computes: export it with -p fp32",
)
