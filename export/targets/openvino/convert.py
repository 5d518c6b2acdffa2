"""Stage `openvino`: ONNX to OpenVINO IR, two files."""

from pathlib import Path

from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions
from runtimes.openvino.runtime import import_openvino
from runtimes.precision import Dtype, Precision


def to_openvino(source: Artifact, out: Path, precision: Precision) -> Artifact:
    """Write `out` (.xml) and the .bin beside it.

    OpenVINO's own `save_model` rounds weights to fp16 unless it is told not to; here that is what the
    precision's `weights` ask for and nothing else. In what arithmetic it runs, an IR cannot say.

    Raises:
        MissingExtra: openvino is not installed.
    """
    openvino = import_openvino()
    model = openvino.convert_model(source.path)
    _drop_provenance(model)
    openvino.save_model(model, out, compress_to_fp16=precision.weights is Dtype.FP16)
    return Artifact.on_disk(
        out,
        Format.OPENVINO,
        source.model,
        made_by="openvino",
        batch=source.batch,
        precision=precision,
        source=source,
        tools=versions("openvino"),
    )


def _drop_provenance(model: "object") -> None:
    """The name of the file that it was converted from is no part of the model."""
    info = model.rt_info  # type: ignore[attr-defined]  # openvino has no usable types
    for key in ("conversion_parameters", "framework"):
        if key in info:
            del info[key]
