"""An int8 file over its budget: leave layers in float32, by what they bring for what they cost, and say which.

A file that passes with a stated list is of more use on the day of a release than a rejection; so the list stands in the
stage's notes, in the manifest's precision and as a warning of the operators gate, and no other layer may be without its
quantizers. `--all-int8` asks for the rejection.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from export.targets.onnx.float_choice import Choice
from export.targets.onnx.float_layers import with_float_layers
from export.targets.onnx.layer_costs import DEPTHWISE, LayerCosts, layer_costs
from export.targets.onnx.sensitivity import Sensitivity, sensitivities
from export.workers.progress import Step
from runtimes.artifact import Artifact, Format
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.qdq import layers
from runtimes.precision import Dtype
from runtimes.runtime import Array
from validation.gates import table
from validation.verdict import Rejected, Verdict

LARGEST_SHARE = 1 / 2
"""Of the layers: with more of them in float32 it would be no int8 file."""

Holds = Callable[[Artifact], bool]
"""Whether a file is within a budget."""


def costs_too_much(verdict: Verdict) -> bool:
    """Rejected for what a lower precision costs, and for nothing else."""
    if not isinstance(verdict, Rejected):
        return False
    over = {gate.gate for gate in verdict.report.gates if not gate.passed}
    return over <= set(table.names(lambda gate: gate.cost))


def can_fall_back(verdict: Verdict) -> bool:
    """An int8 ONNX file, for whichever runtime, that is rejected for what int8 costs, and for nothing else."""
    artifact = verdict.artifact
    return artifact.format == Format.ONNX and artifact.precision.quantized and costs_too_much(verdict)


def fall_back(
    rejected: Verdict,
    source: Artifact,
    images: Array,
    out: Path,
    *,
    holds: Sequence[Holds],
    judged: Callable[[Artifact], Verdict],
    step: Step,
    known: tuple[str, ...] | None = None,
) -> Verdict:
    """The verdict on the file with layers in float32 that is within its budgets; `rejected` where no number of them is.

    Layers are ranked by `sensitivities` on `images`, those that it was calibrated on, and by `layer_costs`; which are
    taken `float_choice.py` says. One evaluation a layer, and a file for each step of a few binary searches.

    Args:
        rejected: what `can_fall_back`, or the one before it that was converted to what is over its budget.
        source: the float32 file that it was made of.
        images: (n, 3, H, W) float32, normalized.
        out: the new file; other files beside it are overwritten.
        holds: each asks for more than the one before it and takes longer, the last for all that is budgeted: what is
            found by the first is taken if the others hold as well, and is searched by the next if not.
        judged: the verdict by all gates.
        step: told what goes on.
        known: the layers that it took at another batch, taken as they are where they are enough here; of none, the
            search there was in vain and is not made again.
    """
    quantized = rejected.artifact
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f"tried-{out.name}")
    count = len(layers(load_onnx(quantized.path)))
    most = int(count * LARGEST_SHARE)

    def enough(within: Holds, names: Sequence[str]) -> bool:
        step(f"trying it with {len(names)} of {count} layers in float32")
        return within(with_float_layers(quantized, source, names, scratch, tried=True))

    costs = layer_costs(load_onnx(source.path), feeding=quantized.precision.activations is Dtype.UINT8)
    chosen: list[str] | None = None
    found: tuple[Sensitivity, ...] = ()
    if known and enough(holds[-1], known):
        chosen = list(known)
    elif known != ():
        found = sensitivities(quantized, source, images, step)
        for within in holds:
            chosen = Choice(costs, found, partial(enough, within)).cheapest(most)
            if chosen is None or within is holds[-1] or enough(holds[-1], chosen):
                break
    scratch.unlink(missing_ok=True)
    if chosen is None:
        note = f"nor is it within its budget with the {most} of {count} layers in float32 that bring the most"
        note += ", as another batch showed" if known == () else ""
        return replace(rejected, artifact=replace(quantized, notes=(*quantized.notes, note)))
    made = with_float_layers(quantized, source, chosen, out)
    names = ", ".join(made.precision.float_layers)
    note = f"{len(chosen)} of {count} layers left in float32, or it would be over its budget: {names}"
    return judged(replace(made, notes=(*made.notes, note, _what_it_takes(chosen, found, costs))))


def _what_it_takes(chosen: Sequence[str], found: Sequence[Sensitivity], costs: LayerCosts) -> str:
    """For people: what each layer brings by itself and costs, the most expensive first."""
    gains = {each.layer: f"error {each.before:.4f} to {each.after:.4f}, " for each in found}
    each = (
        f"{layer} {gains.get(layer, '')}{100 * costs.share([layer]):.1f} %"
        for layer in sorted(chosen, key=lambda name: -costs.share([name]))
    )
    whole = (
        f"{100 * costs.share(chosen):.1f} % of its multiply-adds (estimated, depthwise ones count {DEPTHWISE} times)"
    )
    return f"computed in floating point with them: {whole}; each alone: {'; '.join(each)}"
