import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from efficientvit.errors import BadInput
from efficientvit.model import EfficientViT
from runtimes.precision import Dtype
from runtimes.pytorch.module import TorchSession, open_module
from runtimes.runtime import Array


@pytest.fixture
def threads_before() -> Iterator[int]:
    """A count that no test asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_the_logits_are_the_modules(module: EfficientViT, images: Array, expected: Array) -> None:
    with open_module(module) as session:
        assert np.allclose(session(images), expected, atol=1e-5)
        assert session(images[:1]).shape == (1, 10)


def test_read_only_images_are_neither_warned_of_nor_changed(images: Array) -> None:
    frozen = images.copy()
    frozen.flags.writeable = False

    class Doubles(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2).mean((2, 3))

    with open_module(Doubles().eval()) as session:
        session(frozen)
    assert np.array_equal(frozen, images)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_set_and_put_back(module: EfficientViT, threads: int, threads_before: int) -> None:
    with open_module(module, threads) as session:
        assert torch.get_num_threads() == threads == session.attestation.threads
    assert torch.get_num_threads() == threads_before


def test_threads_are_put_back_after_an_error(module: EfficientViT, threads_before: int) -> None:
    with pytest.raises(BadInput), open_module(module, 1) as session:
        session(np.zeros((1, 1, 64, 64), np.float32))
    assert torch.get_num_threads() == threads_before
    with pytest.raises(BadInput), open_module(copy.deepcopy(module).double(), 1):
        pass
    assert torch.get_num_threads() == threads_before


def test_float32_is_attested_with_the_settings_it_was_read_from(module: EfficientViT) -> None:
    attestation = TorchSession(module).attestation
    assert attestation.runtime == "torch"
    assert attestation.version == torch.__version__.partition("+")[0]
    assert attestation.precision is Dtype.FP32
    assert attestation.settings["backends.cpu.get_cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert attestation.settings["get_float32_matmul_precision"] == "highest"


def test_reduced_matrix_products_are_not_attested_as_float32(module: EfficientViT) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert TorchSession(module).attestation.precision is Dtype.BF16
    finally:
        torch.set_float32_matmul_precision(before)
    assert TorchSession(module).attestation.precision is Dtype.FP32


def test_a_module_in_training_mode_is_refused(module: EfficientViT) -> None:
    with pytest.raises(BadInput, match="training mode"):
        TorchSession(copy.deepcopy(module).train())


def test_a_module_of_another_dtype_is_refused_by_name(module: EfficientViT) -> None:
    other = copy.deepcopy(module)
    other.head.linear.half()
    with pytest.raises(BadInput, match=r"'head\.linear\.weight'"):
        TorchSession(other)
