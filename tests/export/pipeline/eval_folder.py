"""Labeled images for a model that was never trained: each is of the class that the model gives it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from efficientvit.images.preprocessing import Preprocessing, to_tensor
from efficientvit.model import EfficientViT


def write_eval_folder(folder: Path, model: EfficientViT, count: int) -> Path:
    """`count` smooth random images in folders by class index: the reference is right on all of them."""
    size = model.spec.image_size
    rng = np.random.default_rng(0)
    exact = model.double().eval()
    for number in range(count):
        grid = rng.integers(0, 256, (4, 4, 3), np.uint8)
        rgb = np.array(Image.fromarray(grid).resize((size.width + 20, size.height + 10), Image.Resampling.BICUBIC))
        tensor = torch.tensor(to_tensor(rgb, Preprocessing(image_size=size)))[None].double()
        with torch.no_grad():
            label = int(exact(tensor).argmax())
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb).save(place / f"{number:03}.png")
    return folder
