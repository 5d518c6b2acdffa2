"""Stage `coreml`: the torch.export program to a Core ML package (ML program), byte for byte reproducible."""

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import MissingExtra
from runtimes.artifact import Artifact, Dtype, Format, Precision
from runtimes.host import versions
from runtimes.ports import INPUT, OUTPUT

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from efficientvit.model import EfficientViT

_NAMESPACE = uuid.UUID("5c5f9d9e-0a52-5c0b-9d4e-3d5b6f7e8a90")
_DEBUG_HANDLES = "executorch_debug_handle_mapping.json"  # written for a debugger of ExecuTorch; no part of a package
_MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


def to_coreml(
    program: "ExportedProgram", model: "EfficientViT", out: Path, *, batch: int, activations: Dtype = Dtype.FP16
) -> Artifact:
    """Write the package `out` (.mlpackage) for iOS 15 and later, float32 in and out.

    Raises:
        MissingExtra: coremltools is not installed.
    """
    try:
        import coremltools as ct
    except ModuleNotFoundError as error:
        raise MissingExtra("coremltools", "coreml", "converting to Core ML") from error
    import numpy as np

    precision = ct.precision.FLOAT16 if activations is Dtype.FP16 else ct.precision.FLOAT32
    size = model.spec.image_size
    package = ct.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        inputs=[ct.TensorType(INPUT, shape=(batch, 3, size, size), dtype=np.float32)],
        outputs=[ct.TensorType(OUTPUT, dtype=np.float32)],
        minimum_deployment_target=ct.target.iOS15,
        compute_precision=precision,
        skip_model_load=True,
    )
    package.save(str(out))
    _normalise(out)
    return Artifact.on_disk(
        out,
        Format.COREML,
        model.spec,
        made_by="coreml",
        batch=batch,
        precision=Precision(activations, activations, activations),
        tools=versions("coremltools", "torch"),
    )


def _normalise(package: Path) -> None:
    """The same input gives the same bytes: the spec in a fixed order, the manifest's random UUIDs by name."""
    import coremltools as ct

    (package / _DEBUG_HANDLES).unlink(missing_ok=True)
    spec = ct.utils.load_spec(str(package))
    (package / _MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    path = package / "Manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text())
    named = {
        key: str(uuid.uuid5(_NAMESPACE, entry["path"])).upper() for key, entry in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {
        named[key]: entry
        for key, entry in sorted(manifest["itemInfoEntries"].items(), key=lambda item: item[1]["path"])
    }
    manifest["rootModelIdentifier"] = named[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")
