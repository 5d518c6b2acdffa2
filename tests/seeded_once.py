"""Seeded weights are calibrated once for each model and seed in a whole run of the tests."""

import functools
import hashlib
from pathlib import Path

import torch
from filelock import FileLock

from efficientvit.model import EfficientViT, build
from efficientvit.spec import ModelSpec
from efficientvit.weights import seeded

_MODELS = 16
"""So many are held by a process."""

calibrated = seeded._seeded.__wrapped__
"""The weights, made now."""


def seed_once(folder: Path) -> None:
    """From here on, this process takes seeded weights from `folder`, where it keeps those that it makes."""

    @functools.lru_cache(_MODELS)
    def kept(spec: ModelSpec, seed: int) -> EfficientViT:
        path = folder / f"{hashlib.sha256(f'{spec} {seed}'.encode()).hexdigest()}.pt"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                model = calibrated(spec, seed)
                torch.save(model.state_dict(), path)
                return model
        model = build(spec)
        model.load_state_dict(torch.load(path))
        return model.eval()

    setattr(seeded, "_seeded", kept)  # noqa: B010 - the module's own name for it
