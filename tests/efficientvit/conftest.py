"""Weights and images that a rule draws from names and shapes, and the files that hold them."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

# The BatchNorm at the end of a residual branch: at unit scale, thirty in a row double the variance each, and
# two implementations differ by rounding alone.
_ENDS_A_BRANCH = re.compile(r"(pw2|dw0\.m|dw1\.m|proj\.1|\d\.m|res\d\.\d\.m)\.bn\.weight$")


def drawn(name: str, shape: tuple[int, ...]) -> Tensor | None:
    """The float32 value of a tensor, from a generator seeded by its own name; None for index buffers.

    The golden logits in tests/data were computed by the authors' code and by timm on exactly these weights.
    """
    if name.endswith(("attention_bias_idxs", "num_batches_tracked")):
        return None
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    rng = np.random.Generator(np.random.PCG64(seed))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif leaf == "running_mean":
        value = 0.1 * rng.standard_normal(shape)
    elif leaf == "attention_biases":
        value = 0.5 * rng.standard_normal(shape)
    elif leaf == "weight" and len(shape) == 1:
        value = rng.uniform(0.5, 1.5, shape)
        if _ENDS_A_BRANCH.search(name):
            value *= 0.25
    elif leaf == "weight":
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.1 * rng.standard_normal(shape)
    return torch.from_numpy(value.astype(np.float32))


def _shapes(layout: str, model: str) -> dict[str, tuple[int, ...]]:
    listed = json.loads((GOLDEN / f"{layout}_{model}.keys.json").read_text())
    return {name: tuple(shape) for name, shape in listed.items()}


@pytest.fixture(scope="session")
def golden_shapes() -> Callable[[str, str], dict[str, tuple[int, ...]]]:
    """(layout, model) -> the names and shapes of the public implementation's state dict."""
    return _shapes


@pytest.fixture(scope="session")
def golden_state() -> Callable[[str, str], dict[str, Tensor]]:
    """(layout, model) -> a state dict as that implementation saves it, filled by the rule."""

    @cache
    def draw(layout: str, model: str) -> dict[str, Tensor]:
        filled = {}
        for name, shape in _shapes(layout, model).items():
            value = drawn(name, shape)
            filled[name] = torch.zeros(shape, dtype=torch.int64) if value is None else value
        return filled

    def state(layout: str, model: str) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in draw(layout, model).items()}

    return state


@pytest.fixture(scope="session")
def golden_images() -> Tensor:
    """(2, 3, 224, 224) float64, standard normal in float32."""
    rng = np.random.Generator(np.random.PCG64(0))
    return torch.from_numpy(rng.standard_normal((2, 3, 224, 224)).astype(np.float32)).double()


@pytest.fixture(scope="session")
def golden_logits() -> Callable[[str, str], NDArray[np.float64]]:
    """(layout, model) -> (2, 1000) float64 of that implementation."""

    def logits(layout: str, model: str) -> NDArray[np.float64]:
        with np.load(GOLDEN / f"{layout}_{model}.npz") as file:
            return np.asarray(file["logits"], dtype=np.float64)

    return logits


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Mapping[str, Tensor], str], Path]:
    """(state dict, file name) -> the file: safetensors, or PyTorch with the state dict under 'model'."""

    def write(state: Mapping[str, Tensor], name: str) -> Path:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file(dict(state), path, metadata={"format": "pt"})
        else:
            torch.save({"model": dict(state)}, path)
        return path

    return write
