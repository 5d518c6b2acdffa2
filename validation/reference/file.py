"""A `Reference` on disk, so that a folder can be judged again without the weights. docs/manifest.md describes it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet
from runtimes.precision import Precision
from validation.inputs import golden_file
from validation.inputs.golden_set import Kind
from validation.reference.reference import Reference

GOLDEN, REFERENCE = "golden.safetensors", "reference.safetensors"
_KEY = "reference"


def save(reference: Reference, folder: Path) -> None:
    """Write the golden set and what belongs to it into `folder`.

    Tensors: `logits` and `structure` (n, classes) float64, `judged` (n,) uint8. Metadata: one key,
    `reference`, a JSON object with the golden set's digest, the precision, the floors and the constants' digests.
    """
    import safetensors.numpy

    golden_file.save(reference.golden, folder / GOLDEN)
    header = {
        "golden_sha256": reference.golden.sha256,
        "precision": reference.precision.to_json(),
        "floors": dict(reference.floors),
        "structure_floors": dict(reference.structure_floors),
        "constants": dict(reference.constants),
        "image_input": reference.image_input,
        "quality_budget": reference.quality_budget,
    }
    tensors: dict[str, NDArray[Any]] = {
        "logits": reference.logits,
        "structure": reference.structure,
        "judged": reference.judged.astype(np.uint8),
    }
    content = safetensors.numpy.save(tensors, {_KEY: json.dumps(header, sort_keys=True)})
    (folder / REFERENCE).write_bytes(content)


def load(folder: Path) -> Reference:
    """What `save` wrote.

    Raises:
        BadGoldenSet: a file is missing, broken, or the two don't belong together.
    """
    from safetensors import SafetensorError, safe_open

    golden = golden_file.load(folder / GOLDEN)
    path = folder / REFERENCE
    try:
        with safe_open(path, "numpy") as file:
            header: dict[str, Any] = json.loads(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name) for name in ("logits", "structure", "judged")}
        precision = Precision.from_json(header["precision"])
        floors = {Kind(kind): float(floor) for kind, floor in header["floors"].items()}
        structure_floors = {Kind(kind): float(floor) for kind, floor in header["structure_floors"].items()}
        image_input, quality = bool(header["image_input"]), header["quality_budget"]
        quality_budget = None if quality is None else float(quality)
        belongs = header["golden_sha256"] == golden.sha256 and len(tensors["logits"]) == len(golden)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadGoldenSet(
            f"{path} is no reference that can be judged against", got=str(error), next_step="export the artifact again"
        ) from error
    if not belongs:
        raise BadGoldenSet(
            f"{path} does not belong to the golden set beside it",
            expected=f"golden set {header['golden_sha256']}",
            got=golden.sha256,
            next_step="export the artifact again",
        )
    return Reference(
        golden=golden,
        precision=precision,
        logits=tensors["logits"],
        structure=tensors["structure"],
        judged=tensors["judged"].astype(bool),
        floors=floors,
        structure_floors=structure_floors,
        constants={str(name): str(digest) for name, digest in header["constants"].items()},
        image_input=image_input,
        quality_budget=quality_budget,
    )
