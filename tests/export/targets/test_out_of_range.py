"""A model that float16 cannot hold is refused for it, with the next step, by each target in its own way."""

from pathlib import Path
from typing import Any

import pytest
import torch

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded

pytestmark = pytest.mark.tiny_m0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32 the seeded model: a ReLU is homogeneous, and what is 2e4 times as large before it is undone behind."""
    state = seeded(model_spec("m0", square(64))).state_dict()
    branch = "stage1.block1.ffn1.branch"
    for name in ("weight", "bias"):
        state[f"{branch}.expand.norm.{name}"] *= 2e4
    state[f"{branch}.project.conv.weight"] /= 2e4
    path = tmp_path_factory.mktemp("large") / "large.pth"
    torch.save(state, path)
    return path


def test_activations_and_weights_out_of_range_are_named(command: Any, checkpoint: Path) -> None:
    ran = command("m0", "-w", str(checkpoint), "-t", "onnx,openvino", "-p", "fp16", "--image-size", "64")
    assert ran.code == 2, ran.err
    assert "float16 cannot hold what this model computes" in ran.err
    assert "stage1.block1.ffn1.branch.expand" in ran.err
    assert "float16 cannot hold weights of this model" in ran.err
    assert ran.err.count("export it with -p fp32") == 2


def test_a_rejection_for_overflow_says_what_helps(command: Any, checkpoint: Path) -> None:
    ran = command("m0", "-w", str(checkpoint), "-t", "coreml", "--image-size", "64")
    assert ran.code == 1, ran.err
    assert "next: float16 cannot hold what this model computes: export it with -p fp32" in ran.err
