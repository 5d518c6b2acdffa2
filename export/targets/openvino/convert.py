"""Stage `openvino`: ONNX to OpenVINO IR, two files."""

import re
from collections.abc import Set
from itertools import count, filterfalse
from pathlib import Path
from typing import Any

from efficientvit.errors import BadInput
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions
from runtimes.onnx.graph import load_onnx
from runtimes.openvino.package import import_openvino
from runtimes.precision import Dtype, Precision

_WEIGHTS = 8 * 4
"""Bytes from which on a constant is weights."""
_GENERATED = re.compile(r"(?P<kind>[A-Za-z]+)_\d+")


def to_openvino(source: Artifact, out: Path, precision: Precision) -> Artifact:
    """Write `out` (.xml) and the .bin beside it.

    OpenVINO's own `save_model` rounds weights to fp16 unless it is told not to; here that is what the
    precision's `weights` ask for and nothing else. In what arithmetic it runs, an IR cannot say.

    Raises:
        MissingExtra: openvino is not installed.
        BadInput: weights that float16 does not hold, which OpenVINO then leaves in float32.
    """
    openvino = import_openvino()
    model = openvino.convert_model(source.path)
    _drop_provenance(model)
    _number(model, _names(source.path))
    openvino.save_model(model, out, compress_to_fp16=precision.weights is Dtype.FP16)
    if precision.weights is Dtype.FP16:
        _require_halves(openvino.Core().read_model(out))
    return source.becomes(out, "openvino", file_format=Format.OPENVINO, precision=precision, tools=versions("openvino"))


def _require_halves(model: Any) -> None:
    left = [
        operation.get_friendly_name()
        for operation in model.get_ops()
        if operation.get_type_name() == "Constant" and operation.get_element_type().get_type_name() == "f32"
        if operation.get_byte_size() >= _WEIGHTS
    ]
    if left:
        raise BadInput(
            "float16 cannot hold weights of this model",
            expected="magnitudes from 6e-8 to 65504, few of them below 6e-5",
            got=f"{len(left)} constants that OpenVINO left in float32, '{left[0]}' for one",
            next_step="export it with -p fp32",
        )


def _names(path: Path) -> Set[str]:
    graph = load_onnx(path, weights=False).graph
    tensors = (name for node in graph.node for name in (node.name, *node.output))
    return {*tensors, *(each.name for each in (*graph.initializer, *graph.input))}


def _number(model: Any, given: Set[str]) -> None:
    """Number what OpenVINO named by what is in the model: its own counter is the process's, and goes on.

    Without it the bytes of an IR are those of a process that has converted nothing else before.
    """
    generated = [
        (operation, match["kind"])
        for operation in model.get_ordered_ops()
        if (match := _GENERATED.fullmatch(operation.get_friendly_name())) and match[0] not in given
    ]
    names = {kind: filterfalse(given.__contains__, map(f"{kind}_{{}}".format, count())) for _, kind in generated}
    for operation, kind in generated:
        operation.set_friendly_name(next(names[kind]))


def _drop_provenance(model: "object") -> None:
    """The name of the file that it was converted from is no part of the model."""
    info = model.rt_info  # type: ignore[attr-defined]  # openvino has no usable types
    for key in ("conversion_parameters", "framework"):
        if key in info:
            del info[key]
