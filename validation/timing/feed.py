"""What an artifact is timed on."""

import numpy as np

from efficientvit.size import ImageSize
from runtimes.artifact import Artifact
from runtimes.interface import takes_images
from runtimes.runtime import Images
from validation.inputs.golden_set import GoldenSet
from validation.inputs.pictures import pictures

PHOTO = ImageSize(height=480, width=640)
"""The size of the images that a file is timed on which takes any."""


def timing_feed(artifact: Artifact, golden: GoldenSet) -> Images:
    """Ordinary golden images as the artifact takes them, at least one; for a file that resizes, photos of its size."""
    wrapping = artifact.interface.wrapping
    if wrapping is not None and takes_images(artifact):
        return np.stack([each.pixels for each in pictures(wrapping.fed_size or PHOTO)])
    ordinary = golden.ordinary()
    return ordinary.with_pixels().pixels if artifact.interface.image_input else ordinary.images
