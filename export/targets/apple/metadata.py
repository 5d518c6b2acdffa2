"""What a package or an asset for Apple's systems says of itself: its weights and its check can be traced from it."""

import hashlib
import json
from collections.abc import Mapping

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.weights.source import Weights
from export import __version__
from runtimes.interface import METADATA_PREFIX
from runtimes.precision import Precision

_AUTHOR = "EfficientViT by Liu et al. (CVPR 2023), exported by vit-export"
_UNSTATED = "unstated"
_UNTRAINED = "UNTRAINED WEIGHTS, not for release. "


def describe(
    author: str | None,
    license: str | None,  # noqa: A002 - as the option is called
    weights: Weights,
    precision: Precision,
    constants: Mapping[str, str],
    preprocessing: Preprocessing,
) -> tuple[tuple[str, str], ...]:
    """Key and value, sorted: the fields that Xcode shows, and under keys of ours the manifest's digests.

    `author`, `license`: as they were asked for. `constants`: of the package, name and digest.
    """
    spec, size = weights.model.spec, weights.model.spec.image_size
    gives = f"{spec.classes} classes" if spec.head.gives_logits else str(spec.head)
    form = f"EfficientViT-{spec.name.upper()} at {size.height} x {size.width}, {gives}"
    held = json.dumps(dict(constants), sort_keys=True).encode()
    ours = {
        "version": __version__,
        "model": spec.name,
        # The last part alone: a folder of the machine that exported is nobody's business.
        "weights": weights.source.rsplit("/", 1)[-1],
        "weights-sha256": weights.sha256,
        "trained": "true" if weights.trained else "false",
        "constants-sha256": hashlib.sha256(held).hexdigest(),
        "precision": f"weights {precision.weights}, activations {precision.activations}",
        "preprocessing": json.dumps(preprocessing.to_json(), sort_keys=True),
    }
    if not spec.head.gives_logits:
        outputs = {each.name: {"shape": each.shape, "stride": each.stride} for each in spec.outputs}
        ours["outputs"] = json.dumps(outputs, sort_keys=True)
    said = {f"{METADATA_PREFIX}{key}": value for key, value in ours.items()} | {
        "author": author or _AUTHOR,
        "license": license or _UNSTATED,
        "version": __version__,
        "description": f"{'' if weights.trained else _UNTRAINED}{form}",
    }
    return tuple(sorted(said.items()))
