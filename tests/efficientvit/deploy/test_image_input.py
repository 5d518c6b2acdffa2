"""The normalization as part of the model: exact where the common recipes are not."""

import numpy as np
import torch

from efficientvit.deploy.image_input import ImageInput, divided_by_std
from efficientvit.deploy.rewrites import rewritten
from efficientvit.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from validation.metrics import relative_error

SIZE = 64


@torch.no_grad()
def test_it_is_the_model_behind_the_pixels_to_float64s_rounding() -> None:
    trained = seeded(model_spec("m0", square(SIZE))).double()
    pixels = torch.randint(0, 256, (3, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).double()
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    model = ImageInput(
        divided_by_std(rewritten(trained), IMAGENET_STD), torch.tensor(1 / 255, dtype=torch.float64), -mean
    )
    right = trained((pixels / 255 - mean) / std).numpy()
    assert relative_error(model(pixels).numpy(), right).max() <= 1e-12


@torch.no_grad()
def test_the_model_itself_is_left_alone() -> None:
    net = rewritten(seeded(model_spec("m0", square(SIZE))))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    divided = divided_by_std(net, IMAGENET_STD)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    changed = [name for name, tensor in divided.state_dict().items() if not torch.equal(before[name], tensor)]
    assert len(changed) == 1
    ratio = (before[changed[0]] / divided.state_dict()[changed[0]]).mean((0, 2, 3)).numpy()
    assert np.allclose(ratio, IMAGENET_STD)
