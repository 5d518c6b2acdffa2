"""That equalization changes nothing: proven like the rewrites, and its constants audited like theirs.

A ReLU is a random function in exact arithmetic, and passes no factor on there. So each ReLU that factors go through is
written as factor * ReLU(x / factor), which is the same function for positive factors, and `equalize` makes only those.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from efficientvit.copies import copied
from efficientvit.deploy.equalization import Equalization, equalize, with_scaled_relus
from efficientvit.errors import VitExportError
from efficientvit.model import EfficientViT
from validation.proof.rewrites import audit, prove_rewrites
from validation.reference.memo import remembered

Equalize = Callable[[EfficientViT, Equalization], EfficientViT]


def require_exact(trained: EfficientViT, rewritten: EfficientViT, equalization: Equalization) -> None:
    """As `prove_exact`, once for the same model and factors.

    Raises:
        VitExportError: it is no identity, or a constant is not its exact value rounded to float32.
    """

    def compute() -> NDArray[np.float64]:
        prove_exact(trained, rewritten, equalization)
        return np.ones(1)

    remembered(f"equalization {equalization}", rewritten, (), compute)


def prove_exact(
    trained: EfficientViT, rewritten: EfficientViT, equalization: Equalization, by: Equalize = equalize
) -> None:
    """Prove that the deploy form with these factors computes what it did, and that its constants are rounded once.

    `rewritten`: the deploy form in float64. `by`: what makes the factors part of it.

    Raises:
        VitExportError: it is no identity, or a constant is not its exact value rounded to float32.
    """
    (step,) = prove_rewrites(rewritten, (lambda form: with_scaled_relus(by(form, equalization), equalization),))
    if not step.proven:
        raise VitExportError(
            "the equalization is not proven an identity",
            got=step.detail,
            next_step="this is a fault of vit-export: report it; -p fp16 does without",
        )
    with torch.no_grad():
        deploy = by(copied(rewritten), equalization).float()
    off = next(audit(trained, deploy, (lambda form: by(form, equalization),)), None)
    if off is not None:
        raise VitExportError(
            f"'{off.name}' is not its exact value after equalization, rounded once",
            got=f"off by {off.ulps:.7g} units in the last place",
            next_step="this is a fault of vit-export: report it; -p fp16 does without",
        )
