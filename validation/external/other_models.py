"""Models of other families, for comparison: judged against their own module in float64.

They have no deploy form here, so their constants are not audited, and of int8 no structure is judged: the float32 file
that it was made from has passed that gate.
"""

import copy

import torch
from torch import nn

from runtimes.artifact import Artifact
from runtimes.interface import OUTPUT
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Runtime
from validation.gates import table
from validation.inputs.golden_set import GoldenSet
from validation.judge import in_another_arithmetic, report_of
from validation.metrics import Float64, relative_error, scale_of
from validation.reference.emulation import as_executed, evaluate, evaluations
from validation.reference.floors import WELL_CONDITIONED, default_quality_budget, narrowest, pooled
from validation.reference.reference import Expected, Reference
from validation.trial import DYNAMIC_BATCHES, Trial
from validation.verdict import Verdict, verdict_of

_GATES = ("operators", "structure", "ranges", "execution", "precision", "quality")
"""Those that need no deploy form."""


class BaselineModel:
    """A module in eval mode and its golden inputs: the right answers, and what float32 deviates from them, once."""

    def __init__(self, module: nn.Module, golden: GoldenSet) -> None:
        self.module = module
        self.golden = golden
        self._images = torch.tensor(golden.images)
        self._exact: Float64 = evaluate(copy.deepcopy(module).double(), self._images.double()).double().numpy()
        self._single = evaluations(module, self._images, Precision())
        self._at: dict[Precision, Reference] = {}

    def at(self, precision: Precision) -> Reference:
        """The reference for artifacts of this precision, without constants; measured once."""
        if precision not in self._at:
            self._at[precision] = self._measured(precision)
        return self._at[precision]

    def copied(self) -> nn.Module:
        """A copy of the module, free to change."""
        return copy.deepcopy(self.module)

    def _measured(self, precision: Precision) -> Reference:
        exact, golden = self._exact, self.golden
        judged = relative_error(self._single[0], exact, scale_of(exact, golden.ordinary_rows)) <= WELL_CONDITIONED
        rounded_too = precision.rounding is not Dtype.FP32 and not precision.quantized
        rough = self._single
        if rounded_too:
            rough = evaluations(as_executed(self.module, precision), self._images, precision)
        expected = Expected(
            precision=precision,
            right=exact,
            structure=exact,
            floors=pooled(rough, exact, judged, golden, narrowest(precision)),
            structure_floors=pooled(self._single, exact, judged, golden, Dtype.FP32),
            quality_budget=default_quality_budget(exact, judged, golden) if precision.quantized else None,
        )
        return Reference(
            golden=golden,
            precision=precision,
            outputs={OUTPUT: expected},
            judged=judged,
            constants={},
        )


def judge_baseline(artifact: Artifact, reference: Reference, runtime: Runtime) -> Verdict:
    """The verdict by every gate that needs no deploy form.

    Raises:
        ArtifactChanged: the file is not the one that was made.
        StageFailed: the runtime refuses the file.
    """
    artifact.require_unchanged()
    trial = Trial(artifact, reference, runtime, dynamic_batches=DYNAMIC_BATCHES[:1])
    _ = trial.shipped  # a file that its runtime refuses is a failed stage
    skipped = {"structure"} if artifact.precision.quantized else set()
    gates = [gate for gate in table.GATES if gate.name in _GATES and gate.name not in skipped]
    report = report_of(trial, table.results(trial, gates))
    return in_another_arithmetic(artifact, report) or verdict_of(artifact, report)
