"""timm's own models with seeded numbers in them, on which a difference shows."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.keymaps import Layout, is_ignored, to_own
from efficientvit.weights.seeded import seeded

Saved = Callable[[object, str], Path]


@pytest.fixture(scope="package")
def timm_m0() -> nn.Module:
    """timm's M0 for 64 pixels and 3 classes, in eval mode. Not to be changed."""
    own = seeded(model_spec("m0", square(64), 3)).state_dict()
    model = timm.create_model("efficientvit_m0", num_classes=3, img_size=64)
    state = model.state_dict()
    names = to_own(list(state), Layout.TIMM)
    state |= {name: own[names[name]] for name in state if not is_ignored(name)}
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture
def state(timm_m0: nn.Module) -> dict[str, Tensor]:
    """Its state dict, to be spoiled."""
    return {name: tensor.clone() for name, tensor in timm_m0.state_dict().items()}


@pytest.fixture
def images() -> Tensor:
    """(2, 3, 64, 64) float64."""
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """What torch.save writes of an object, under a name."""

    def save(payload: object, name: str = "weights.pth") -> Path:
        torch.save(payload, tmp_path / name)
        return tmp_path / name

    return save
