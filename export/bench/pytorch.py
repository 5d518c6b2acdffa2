"""PyTorch itself among the entries: a timm model, run eagerly and compiled, judged like any other artifact."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import StageFailed
from efficientvit.spec import ModelSpec
from export.bench.torch_export import to_torch
from export.workers import output_capture
from export.workers.progress import Step
from runtimes.pytorch.exported_program import TorchProgram
from runtimes.runtime import Runtime
from validation.external.other_models import judge_baseline
from validation.verdict import NotRun, Verdict

if TYPE_CHECKING:
    from torch import nn

    from validation.reference.reference import Reference

TARGET = "pytorch"
"""In the place of a target."""

COMPILED = "compiled"
"""In the place of a precision."""


def _ways() -> Mapping[str, TorchProgram]:
    return {"eager": TorchProgram(), COMPILED: TorchProgram(compiled=True)}


@dataclass(frozen=True, slots=True)
class PyTorch:
    """One benchmark's two ways of running a program, in the place of precisions; they keep what they compiled."""

    ways: Mapping[str, Runtime] = field(default_factory=_ways)

    def judged(
        self, module: "nn.Module", spec: ModelSpec, batch: int, reference: "Reference", out: Path, step: Step
    ) -> Iterator[tuple[str, Runtime, Verdict]]:
        """Save `module`, its normalizations folded, in `out`, and judge it each way.

        Raises:
            StageFailed: it cannot be traced.
        """
        log = out / "log.txt"
        step(f"{spec.name}: torch.export, batch {batch}")
        with output_capture.into(log):
            artifact = to_torch(module, spec, batch, out / f"{spec.name}.pt2")
        for way, runtime in self.ways.items():
            step(f"{spec.name}-{TARGET}-{way}, batch {batch}: judging")
            if (reason := runtime.unavailable()) is not None:
                yield way, runtime, NotRun(artifact, reason, "run it again then")
                continue
            try:
                with output_capture.into(log):
                    verdict: Verdict = judge_baseline(artifact, reference, runtime)
            except StageFailed as error:  # inductor's compiler, of which PyTorch knows only once it has tried
                verdict = NotRun(artifact, f"{error.what}: {error.got}", f"{log} has what was printed")
            yield way, runtime, verdict
