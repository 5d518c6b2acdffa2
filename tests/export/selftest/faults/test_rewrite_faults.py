"""Faults planted in the rewrites from the trained to the deploy form: rejected at the stage `rewrite`, exit 1.

Magnitudes and places are drawn at random from a seed that the test's name shows.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efficientvit.deploy import rewrites as deploy
from efficientvit.model import EfficientViT
from efficientvit.weights.source import find_weights
from export.exits import Exit
from export.pipeline import prepare
from export.pipeline import run as pipeline
from export.progress import Silent
from export.request.request import Request
from export.selftest.faults.rewrites import FAULTS, RewriteFault
from runtimes.runtime import Evidence
from validation import self_check
from validation.reference import model as reference


@pytest.fixture(scope="module")
def unspoiled() -> Iterator[None]:
    """The weights and what the self-check says of them are the same in every run: measure them once."""
    known: list[self_check.SelfCheck] = []

    def once(*arguments: Any) -> self_check.SelfCheck:
        known[:] = known or [check(*arguments)]
        return known[0]

    check, weights = self_check.self_check, functools.cache(find_weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_check, "self_check", once)
        patch.setattr(prepare, "find_weights", lambda option, model, size, _: weights(option, model, size))
        yield


@pytest.mark.usefixtures("unspoiled")
@pytest.mark.parametrize("seed", [5])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_in_the_rewrites(
    fault: RewriteFault, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    @torch.no_grad()
    def planted(model: EfficientViT) -> EfficientViT:
        said.append(fault.plant(model, np.random.default_rng([seed, FAULTS.index(fault)])))
        return model

    rewrites = (planted, *deploy.REWRITES) if fault.first else (*deploy.REWRITES, planted)

    def faulty(model: EfficientViT) -> EfficientViT:
        return deploy.rewritten(model, rewrites)

    monkeypatch.setattr(reference, "rewritten", faulty)
    request = Request(("m0",), ("onnx",), weights="seeded", image_size=128, out=tmp_path, time=False)
    (outcome,) = pipeline.run(request, Silent())
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED, said
    assert outcome.rewrite is not None
    assert not outcome.rewrite.gates[0].passed, said
    assert outcome.stages == []
