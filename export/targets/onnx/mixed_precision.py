"""An int8 file over its budget: leave in float32 the layers that cost the most, as few as it takes, and say which.

A file that passes with a stated list is of more use on the day of a release than a rejection; so the list stands in the
stage's notes, in the manifest's precision and as a warning of the operators gate, and no other layer may be without its
quantizers. `--all-int8` asks for the rejection.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from export.progress import Step
from export.targets.onnx.float_layers import with_float_layers
from export.targets.onnx.sensitivity import sensitivities
from runtimes.artifact import Artifact, Format
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.qdq import layers
from runtimes.precision import Dtype
from runtimes.runtime import Array
from validation.gates import table
from validation.verdict import Rejected, Verdict

LARGEST_SHARE = 1 / 2
"""Of the layers: with more of them in float32 it would be no int8 file."""

_PRUNED = 16
"""Up to so many chosen layers each is tried once more in int8, the least costly first."""

Holds = Callable[[Artifact], bool]


def costs_too_much(verdict: Verdict) -> bool:
    """Rejected for what a lower precision costs, and for nothing else."""
    if not isinstance(verdict, Rejected):
        return False
    over = {gate.gate for gate in verdict.report.gates if not gate.passed}
    return over <= set(table.names(lambda gate: gate.cost))


def can_fall_back(verdict: Verdict) -> bool:
    """An int8 ONNX file for CPUs that is rejected for what int8 costs, and for nothing else."""
    artifact = verdict.artifact
    cpu = artifact.format == Format.ONNX and artifact.precision.activations is Dtype.UINT8
    return cpu and costs_too_much(verdict)


def fall_back(
    rejected: Verdict,
    source: Artifact,
    images: Array,
    out: Path,
    *,
    holds: Holds,
    judged: Callable[[Artifact], Verdict],
    step: Step,
    known: tuple[str, ...] | None = None,
) -> Verdict:
    """The verdict on the file with the fewest layers in float32 that `holds` its budget; `rejected` where none does.

    Layers are ranked by `sensitivities` on `images`, those that it was calibrated on. One evaluation a layer, and as
    many files are tried as there are bits in the number of layers, twice, and `_PRUNED` at most.

    Args:
        rejected: what `can_fall_back`.
        source: the float32 file that it was made of.
        images: (n, 3, H, W) float32, normalized.
        out: the new file; other files beside it are overwritten.
        holds: whether a file is within the quality and accuracy budgets.
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

    def enough(names: Sequence[str]) -> bool:
        step(f"trying it with {len(names)} of {count} layers in float32")
        return holds(with_float_layers(quantized, source, names, scratch))

    chosen: list[str] | None = None
    if known and enough(known):
        chosen = list(known)
    elif known != ():
        ranked = [each.layer for each in sensitivities(quantized, source, images, step)]
        chosen = _fewest(ranked[:most], enough)
    scratch.unlink(missing_ok=True)
    if chosen is None:
        note = f"nor is it within its budget with the {most} of {count} layers in float32 that cost the most"
        note += ", as another batch showed" if known == () else ""
        return replace(rejected, artifact=replace(quantized, notes=(*quantized.notes, note)))
    made = with_float_layers(quantized, source, chosen, out)
    names = ", ".join(made.precision.float_layers)
    note = f"{len(chosen)} of {count} layers left in float32, or it would be over its budget: {names}"
    return judged(replace(made, notes=(*made.notes, note)))


def _fewest(ranked: Sequence[str], enough: Callable[[Sequence[str]], bool]) -> list[str] | None:
    """A prefix that is enough where one layer less is not, without those that turn out not to be needed."""
    short, size = 0, 1
    while not enough(ranked[:size]):
        if size >= len(ranked):
            return None
        short, size = size, min(2 * size, len(ranked))
    while size - short > 1:
        middle = (short + size) // 2
        short, size = (short, middle) if enough(ranked[:middle]) else (middle, size)
    chosen = list(ranked[:size])
    for name in ranked[size - 1 :: -1] if 1 < size <= _PRUNED else ():
        fewer = [each for each in chosen if each != name]
        if fewer and enough(fewer):
            chosen = fewer
    return chosen
