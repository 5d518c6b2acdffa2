"""Weights from a seed: the same in every process, other ones for another seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import state_digest
from tests.seeded_once import calibrated

ROOT = Path(__file__).parents[3]
DIGEST = "import sys; from tests.efficientvit.weights.test_seeded import digest; sys.stdout.write(digest(0))"


def digest(seed: int) -> str:
    """Of weights that are made now, and not taken from what the suite has made."""
    return state_digest(calibrated(model_spec("m0", square(64)), seed))


def test_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the folder, the number of threads and the order of hashes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "random"}
    ran = subprocess.run(
        [sys.executable, "-c", DIGEST], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == digest(0) != digest(1)


def test_what_the_suite_keeps_is_what_is_made() -> None:
    assert state_digest(seeded(model_spec("m0", square(64)))) == digest(0)


def test_a_tensor_depends_on_its_name_and_shape_alone() -> None:
    """What is drawn: the statistics are measured and depend on all layers before."""
    small, large = (dict(seeded(model_spec("m0", square(size), 10)).named_parameters()) for size in (64, 96))
    assert all(torch.equal(tensor, large[name]) for name, tensor in small.items() if tensor.shape == large[name].shape)


def test_every_tensor_of_another_seed_differs() -> None:
    first, other = (seeded(model_spec("m0", square(64)), seed).state_dict() for seed in (0, 1))
    same = [name for name, tensor in first.items() if tensor.is_floating_point() and torch.equal(tensor, other[name])]
    assert same == []


def test_nothing_is_zero_and_norms_are_as_built() -> None:
    model = seeded(model_spec("m0", square(64)))
    assert not model.training
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert all(torch.count_nonzero(parameter) == parameter.numel() for parameter in model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    for norm in norms:
        assert norm.running_var is not None
        assert torch.equal(norm.running_var, norm.running_var.bfloat16().float())


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 7])
def test_activations_stay_at_one_scale(seed: int) -> None:
    """Thirty residual adds of unscaled random weights would push logits to 1e5."""
    model = seeded(model_spec("m0", square(64)), seed)
    logits = model(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))
    assert 0.1 < logits.std() < 10
