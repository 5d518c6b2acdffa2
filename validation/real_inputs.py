"""Does the answer depend on the image, on real photos through the preprocessing that ships?

Statistics of another scale, a wrong size or order of channels can drive a sound model to one answer for everything. The
artifact then equals the reference on every image, and is of no use. Synthetic images don't show it: they are made for
the preprocessing. Photos do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.images.labels import both_answers

FEWEST = 8
"""Fewer photos may well show one thing."""

LEAST_SHARE = 0.05
"""On a trained M0 the right preprocessing gives 0.98, photos of one class 0.64, statistics of 0 to 255 0.01 to 0.02."""

MOST_EVALUATED = 32


@dataclass(frozen=True, slots=True)
class RealInputs:
    """The reference's logits (n, classes) on the photos that an option names."""

    option: str
    logits: NDArray[Any]

    @property
    def share(self) -> float | None:
        """Mean over the photos of ‖c - mean over photos of c‖ / ‖c‖, c the centered logits; None for too few of them.

        What moves all classes alike does not count, as it does in the self-check's `input_share`.
        """
        if len(self.logits) < FEWEST:
            return None
        logits = both_answers(self.logits.astype(np.float64))
        centered = logits - logits.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(centered, axis=1)
        if not norms.all():
            return 0.0
        return float((np.linalg.norm(centered - centered.mean(axis=0), axis=1) / norms).mean())

    @property
    def failure(self) -> str | None:
        """Why the answers say that these photos, or what is done to them, are not what the model was trained on."""
        share = self.share
        if share is None or share >= LEAST_SHARE or len(set(both_answers(self.logits).argmax(axis=1).tolist())) > 1:
            return None
        return (
            f"on the {len(self.logits)} photos of {self.option} the answer hardly depends on the photo: share "
            f"{share:.4f} of {LEAST_SHARE} needed, one class for all. Check --mean, --std and --image-size against the "
            "training"
        )
