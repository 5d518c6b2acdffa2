"""Top-1 accuracies that were measured apart: what their difference is worth."""

import math

from validation.accuracy.top1 import QUANTILE


def unpaired_noise(*measured: tuple[float, int]) -> float:
    """By how much top-1 of several measurements may differ by chance, as a share, with `CONFIDENCE`.

    `measured`: share of the images, 0 to 1, and their number; the images of one are not paired with those of another.
    """
    return QUANTILE * math.sqrt(sum(top1 * (1 - top1) / images for top1, images in measured))
