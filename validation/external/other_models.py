"""Models of other families, for comparison: judged against their own module in float64.

They have no deploy form here, so their constants are not audited, and of int8 no structure is judged: the float32 file
that it was made from has passed that gate.
"""

import copy

import torch
from torch import nn

from runtimes.artifact import Artifact
from runtimes.precision import Dtype, Precision
from runtimes.registry import unexpected_operators
from runtimes.runtime import Mode, Runtime
from validation.gates import result as gates
from validation.inputs.golden_set import GoldenSet
from validation.judge import in_another_arithmetic, quantized_gates, tried
from validation.metrics import Float64, relative_error
from validation.reference.emulation import as_executed, evaluate
from validation.reference.model import (
    WELL_CONDITIONED,
    Reference,
    default_quality_budget,
    evaluations,
    narrowest,
    pooled,
)
from validation.verdict import Report, Verdict, verdict_of


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
        """The module, for whoever is going to change it."""
        return copy.deepcopy(self.module)

    def _measured(self, precision: Precision) -> Reference:
        exact, golden = self._exact, self.golden
        judged = relative_error(self._single[0], exact) <= WELL_CONDITIONED
        rounded_too = precision.rounding is not Dtype.FP32 and not precision.quantized
        rough = self._single
        if rounded_too:
            rough = evaluations(as_executed(self.module, precision), self._images, precision)
        return Reference(
            golden=golden,
            precision=precision,
            logits=exact,
            structure=exact,
            judged=judged,
            floors=pooled(rough, exact, judged, golden, narrowest(precision)),
            structure_floors=pooled(self._single, exact, judged, golden, Dtype.FP32),
            constants={},
            quality_budget=default_quality_budget(exact, judged, golden) if precision.quantized else None,
        )


def judge_baseline(artifact: Artifact, reference: Reference, runtime: Runtime) -> Verdict:
    """The verdict by every gate that needs no deploy form.

    Raises:
        ArtifactChanged: the file is not the one that was made.
        StageFailed: the runtime refuses the file.
    """
    artifact.require_unchanged()
    batches = (artifact.batch or 1,)
    shipped = tried(artifact, runtime, Mode.SHIPPED, reference, batches)
    results = [gates.operators_gate(unexpected_operators(artifact), artifact.precision.float_layers)]
    if artifact.precision.quantized:
        results += [*quantized_gates(artifact, reference), gates.quality_gate(reference, shipped.outputs[0])]
    else:
        oracle = tried(artifact, runtime, Mode.ORACLE, reference, batches)
        results.append(gates.structure_gate(reference, oracle.outputs))
        results.append(gates.precision_gate(reference, shipped.outputs))
    report = Report(
        artifact_sha256=artifact.sha256,
        evidence=runtime.evidence,
        attestation=shipped.attestation,
        gates=tuple(results),
        batches=batches,
        top1=gates.agreement(reference, shipped.outputs),
        outputs=shipped.outputs[0],
    )
    return in_another_arithmetic(artifact, report) or verdict_of(artifact, report)
