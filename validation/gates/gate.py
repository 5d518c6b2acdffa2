"""What a gate is: a row of `validation.gates.table.GATES`."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from validation.gates.result import GateResult
from validation.trial import Trial


class Where(StrEnum):
    """Where blame looks for the cause when the gate rejects."""

    NOWHERE = "no layer is at fault"
    LAYERS = "layers, run in float32 arithmetic"
    LAYERS_AS_SHIPPED = "layers, run in the arithmetic that ships"
    QUANTIZERS = "calibrated ranges"
    INTEGER_LAYERS = "quantized layers, one by one, on reference inputs"


@dataclass(frozen=True, slots=True)
class Gate:
    """One comparison.

    `name`: as the manifest and every table show it. `title`: what is compared, in a line. `applies`: whether the
    artifact is asked this at all; where it says no, nothing is run for it. `judge`: the comparison. `counts`: for a
    gate whose error is a number of faults and whose budget is 0, what it counts. `whole`: error and budget are shown
    without exponent or decimals; `plain`: with three digits. `cost`: it measures what quantization costs on purpose,
    not whether the file is right. `spends`: it is about what running takes, measured of what passed all others.
    `next_step`: what helps where it rejects, if that is in the caller's hands. `foreign`: files of other tools are
    asked it too (`vit-export judge`). Of such a file the trial has `oracle`, `shipped`, `proof` and `accuracy`, as
    logits by the model's own name whatever the file gives, and no other run.
    """

    name: str
    title: str
    applies: Callable[[Trial], bool]
    judge: Callable[[Trial], GateResult]
    blame: Where = Where.NOWHERE
    counts: str = ""
    whole: bool = False
    plain: bool = False
    cost: bool = False
    spends: bool = False
    next_step: str = ""
    foreign: bool = False

    def text(self, value: float) -> str:
        """An error or a budget of this gate, as tables show it."""
        if self.plain:
            return f"{value:.3g}"
        return f"{value:.0f}" if self.counts or self.whole else f"{value:.1e}"
