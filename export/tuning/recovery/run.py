"""`vit-export recover`: weights that lose less in int8, in a checkpoint that says what it was made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.digests import tensor_digest
from efficientvit.errors import BadInput
from efficientvit.size import ImageSize
from efficientvit.weights.declared import Facts
from efficientvit.weights.reading import Reading
from export.exits import Exit
from export.workers.progress import Progress

if TYPE_CHECKING:
    from efficientvit.weights.source import Weights

FEWEST = 16
"""Images: fewer say nothing that isn't learned by heart."""


@dataclass(frozen=True, slots=True)
class RecoveryRequest:
    """`steps`: at most so many, within the minutes. `preprocessing`: what options say of it, by field."""

    model: str
    weights: str
    calibrate: Path
    out: Path
    minutes: float
    steps: int | None = None
    seed: int = 0
    image_size: ImageSize | None = None
    ema: bool = False
    override: bool = False
    skip_bad_photos: bool = False
    preprocessing: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recovered:
    """The checkpoint that was written, and what it was made of. `before`, `after`: as `distill.Recovery` has them."""

    out: Path
    source: str
    recovered_from: str
    sha256: str
    before: float
    after: float
    best: int
    steps: int
    images: int

    @property
    def exit_code(self) -> Exit:
        """What was written lost less than what was given, by its own measure; else nothing was."""
        return Exit.OK

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        names = ("source", "recovered_from", "sha256", "before", "after", "best", "steps", "images")
        return {"out": str(self.out), **{name: getattr(self, name) for name in names}}


def recover_weights(request: RecoveryRequest, progress: Progress) -> Recovered:
    """Fine-tune on the photos of `calibrate`, without labels, and write the checkpoint.

    Raises:
        BadInput: the weights or photos cannot be used, there are too few, or nothing was gained: nothing is written.
    """
    from efficientvit.digests import file_digest
    from efficientvit.weights.checkpoint import save_checkpoint
    from efficientvit.weights.contract import preprocessing_of
    from efficientvit.weights.source import find_weights
    from export.tuning.recovery.distill import recover
    from validation.inputs.photos import photos

    progress.step(f"{request.model}: weights")
    reading = Reading(ema=request.ema, override=request.override)
    weights = find_weights(request.weights, request.model, request.image_size, progress.download, reading)
    progress.weights(weights.about)
    contract = preprocessing_of(
        weights.model.spec.image_size, weights.facts, request.preprocessing, override=request.override
    )
    images = photos(request.calibrate, contract, request.skip_bad_photos, what="calibration").images
    if len(images) < FEWEST:
        raise BadInput(
            "there are too few photos to learn from",
            expected=f"at least {FEWEST}, better a hundred, like those that the app will see",
            got=f"{len(images)} in {request.calibrate}",
            next_step="add photos to the folder of --calibrate",
        )
    found = recover(
        weights.model,
        images,
        seconds=60 * request.minutes,
        steps=request.steps,
        seed=request.seed,
        step=lambda text: progress.step(f"{request.model}: {text}"),
    )
    if found.best == 0:
        raise BadInput(
            "nothing was gained: no step lost less on the photos that were held out",
            expected="a smaller error than before",
            got=f"{found.before:.5f} before, and none below it in {found.steps} steps",
            next_step="give it more --minutes or more photos; or leave layers in float32, which int8 does by itself",
        )
    save_checkpoint(found.model, request.out, **_provenance(request, weights, images, found.best))
    return Recovered(
        request.out,
        weights.source,
        weights.sha256,
        file_digest(request.out),
        found.before,
        found.after,
        found.best,
        found.steps,
        found.images,
    )


def _provenance(request: RecoveryRequest, weights: "Weights", images: Any, best: int) -> dict[str, str]:
    return {
        "recovered_from": weights.sha256,
        "recovered_source": weights.source,
        "recovered_steps": str(best),
        "recovered_seed": str(request.seed),
        "recovered_images": f"{len(images)}, sha256 {tensor_digest(images)}",
        "said": json.dumps({**_said(weights.facts), **request.preprocessing}, sort_keys=True),
    }


def _said(facts: Facts) -> dict[str, Any]:
    """What the checkpoint says of its input and classes, for the new one to say the same; of several the first."""

    def plain(value: Any) -> Any:
        return [value.height, value.width] if isinstance(value, ImageSize) else value

    return {fact.name: plain(fact.value) for fact in reversed(facts) if fact.name not in ("image_size", "classes")}
