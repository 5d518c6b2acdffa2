"""A `Reference` on disk, so that a folder can be judged again without the weights. docs/manifest.md describes it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet
from runtimes.interface import OUTPUT
from runtimes.precision import Precision
from validation.inputs import golden_file
from validation.inputs.golden_set import Kind
from validation.reference.reference import Expected, Reference

GOLDEN, REFERENCE = "golden.safetensors", "reference.safetensors"
_KEY = "reference"


def save(reference: Reference, folder: Path) -> None:
    """Write the golden set and what belongs to it into `folder`.

    Tensors: `logits` and `structure` (n, classes) float64, `judged` (n,) uint8. Metadata: one key,
    `reference`, a JSON object with the golden set's digest, the precision, the floors and the constants' digests.
    Of another head than a classifier's, two tensors for each output, `stage1` and `structure.stage1` (n, values), and
    under `outputs` its floors and budget.
    """
    import safetensors.numpy

    golden_file.save(reference.golden, folder / GOLDEN)
    header: dict[str, Any] = {
        "golden_sha256": reference.golden.sha256,
        "precision": reference.precision.to_json(),
        "constants": dict(reference.constants),
        "image_input": reference.image_input,
    }
    tensors: dict[str, NDArray[Any]] = {"judged": reference.judged.astype(np.uint8)}
    for name, expected in reference.outputs.items():
        tensors |= {
            name: np.ascontiguousarray(expected.right),
            _structure(name): np.ascontiguousarray(expected.structure),
        }
        said = {
            "floors": dict(expected.floors),
            "structure_floors": dict(expected.structure_floors),
            "quality_budget": expected.quality_budget,
        }
        header |= said if name == OUTPUT else {"outputs": {**header.get("outputs", {}), name: said}}
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
            precision = Precision.from_json(header["precision"])
            said = header.get("outputs") or {OUTPUT: header}
            outputs = {str(name): _expected(precision, name, said[name], file.get_tensor) for name in said}
            judged = file.get_tensor("judged").astype(bool)
        image_input = bool(header["image_input"])
        counts = {len(judged), *(len(each.right) for each in outputs.values())}
        belongs = header["golden_sha256"] == golden.sha256 and counts == {len(golden)}
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
        outputs=outputs,
        judged=judged,
        constants={str(name): str(digest) for name, digest in header["constants"].items()},
        image_input=image_input,
    )


def _structure(output: str) -> str:
    """The name of the tensor, beside the output's own."""
    return "structure" if output == OUTPUT else f"structure.{output}"


def _expected(
    precision: Precision, output: str, said: Mapping[str, Any], tensor: Callable[[str], NDArray[Any]]
) -> Expected:
    quality = said["quality_budget"]
    return Expected(
        precision=precision,
        right=tensor(output),
        structure=tensor(_structure(output)),
        floors={Kind(kind): float(floor) for kind, floor in said["floors"].items()},
        structure_floors={Kind(kind): float(floor) for kind, floor in said["structure_floors"].items()},
        quality_budget=None if quality is None else float(quality),
    )
