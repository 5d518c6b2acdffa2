"""What is wrong with how a file treats its input, in words: the mistake under which the checkpoint answers so."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from efficientvit.errors import BrokenArtifact
from runtimes.artifact import Artifact
from runtimes.interface import OUTPUT
from runtimes.registry import reader_of
from validation.external.input_format import Range, Run, Taken, as_logits, mean_and_std, network_feed, some_rows
from validation.metrics import Float64, relative_error
from validation.reference.emulation import evaluate
from validation.reference.model import ReferenceModel

_IMAGES = 3
_ALIKE, _UNLIKE = 0.03, 3
"""The error at which an answer is the mistaken one's, and how much better that explains it than no mistake."""

Mistake = Callable[[Float64, Float64, Float64], Float64]
"""(n, 3, H, W) values from 0 to 1, mean and std as (1, 3, 1, 1) -> what the network is fed by mistake."""

MISTAKES: Mapping[str, Mistake] = {
    "channels are BGR": lambda unit, mean, std: (unit[:, ::-1] - mean) / std,
    "channels are BGR, swapped after the normalization": lambda unit, mean, std: ((unit - mean) / std)[:, ::-1],
    "no scale: pixels 0-255 go into a network for normalized input": lambda unit, mean, std: 255 * unit,
    "no mean and std: values from 0 to 1 go into a network for normalized input": lambda unit, mean, std: unit,
    "normalized twice": lambda unit, mean, std: ((unit - mean) / std - mean) / std,
    "normalized twice, the second time as if it were pixels": (
        lambda unit, mean, std: ((unit - mean) / std / 255 - mean) / std
    ),
    "divided by 255 twice": lambda unit, mean, std: (unit / 255 - mean) / std,
    "normalized by mean and std 0.5, not by the checkpoint's": lambda unit, mean, std: (unit - 0.5) / 0.5,
    "one standard deviation for all channels, which is all that an ImageType can say: put the others into a layer": (
        lambda unit, mean, std: (unit - mean) / std.mean()
    ),
    "one scale for all channels beside a bias for each: put the standard deviations into a layer": (
        lambda unit, mean, std: unit / std.mean() - mean / std
    ),
}
"""What is said -> what the network is fed then."""


_TAKES = {
    Range.NORMALIZED: "it takes normalized images",
    Range.UNIT: "it takes values from 0 to 1",
    Range.BYTES: "it takes values from 0 to 255",
}


_RESIZES = frozenset({
    "Interpolate", "Interpolate-opset4", "Resize", "Upsample", "crop_resize", "resize", "resize_bilinear",
    "upsample_bilinear", "upsample_nearest_neighbor",
})  # fmt: skip


def resizes(artifact: Artifact) -> str | None:
    """That a file resizes its image, by which it takes another size than the network in it; None if it does not."""
    reader = reader_of(artifact)
    if not reader.has_program:
        return None
    try:
        program, _ = reader.program(artifact)
    except BrokenArtifact:  # the proof says why
        return None
    found = next((each for each in program.operations if each.kind in _RESIZES), None)
    if found is None:
        return None
    size = artifact.model.image_size
    return (
        f"{found.kind} '{found.name}' resizes within the file, and the checkpoint was taken for one of {size}, which "
        "the file takes: judge the network behind it, which takes the checkpoint's own size"
    )


def cause_of(run: Run, model: ReferenceModel, taken: Taken, batch: int | None, alike: float = 0.0) -> str | None:
    """The mistake that explains the answers of `run`; None if none does, or nothing is wrong.

    Fed as `taken` says; where that was found by trying, in the other ranges too. `alike`: the error that the file's own
    precision costs, where that is more than a little.

    Where the range was found by trying, a file that hands on to the network what it is fed makes no mistake: it is a
    network for normalized images. On values of another range, next to which a wrong bias is nothing, it would seem to.
    """
    golden, (mean, std) = model.golden, mean_and_std(model)
    rows = some_rows(model, batch, least=_IMAGES)
    images, right, scale = golden.images[rows], model.logits[rows], model.scales[OUTPUT][rows]
    alike = max(_ALIKE, alike)

    def answers(image_range: Range) -> Float64:
        fed = network_feed(model, image_range)(images)
        return run(fed) if batch else np.concatenate([run(each[None]) for each in fed])

    with np.errstate(all="ignore"):
        own = relative_error(as_logits(answers(taken.range), right, taken.scores), right, scale).max()
        if own <= alike / _UNLIKE:
            return None
        wrong = {said: mistake(images.astype(np.float64) * std + mean, mean, std) for said, mistake in MISTAKES.items()}
        mistaken = {
            said: evaluate(model.exact, torch.tensor(np.ascontiguousarray(fed))).numpy() for said, fed in wrong.items()
        }
        others = [each for each in Range if each is not taken.range] if taken.recognized else []
        for image_range in (taken.range, *others):
            given, fed = answers(image_range), network_feed(model, image_range)(images)
            found = {
                said: float(
                    relative_error(as_logits(given, logits, taken.scores), logits, np.linalg.norm(logits, axis=1)).max()
                )
                for said, logits in mistaken.items()
                if not (taken.recognized and np.allclose(wrong[said], fed, rtol=0, atol=1e-3 * np.abs(fed).max()))
            }
            best = min(found, key=lambda said: found[said] if found[said] < float("inf") else float("inf"))
            if found[best] <= alike and own > _UNLIKE * found[best]:
                return best if image_range is taken.range else f"{best} ({_TAKES[image_range]})"
    return None
