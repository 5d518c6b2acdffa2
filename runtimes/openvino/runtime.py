"""OpenVINO on the CPU, for IR files (.xml, with the weights in the .bin beside it)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact, digest
from runtimes.host.machine import this_host, version
from runtimes.host.packages import in_one_sentence, missing
from runtimes.interface import takes_images
from runtimes.openvino.package import NEEDS, import_openvino
from runtimes.openvino.program import port_name
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Evidence, Mode, Session, Values
from runtimes.session import OpenSession, refused_by, session_of

_HINTS = {Dtype.FP32: "f32", Dtype.FP16: "f16", Dtype.BF16: "bf16"}
# Names of OpenVINO's properties and their values as text, which every language binding takes. The plugin's
# default lowers float32 to bfloat16 wherever the CPU can; the mode is set as well because on Arm it alone
# keeps convolutions from "fast math". The plugin has no public switch for its graph optimizations.
_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
_LATENCY = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
_THREADS = "INFERENCE_NUM_THREADS"
_AS_INT8_SHIPS = {**_LATENCY, **_FLOAT32, _THREADS: 1}
_ATTESTED = (
    "INFERENCE_PRECISION_HINT",
    "EXECUTION_MODE_HINT",
    "PERFORMANCE_HINT",
    "NUM_STREAMS",
    "ENABLE_CPU_PINNING",
    "EXECUTION_DEVICES",
)
_DATA_LAYERS = ("Const", "Input", "Output")
_PRODUCTS = ("Convolution", "FullyConnected", "MatMul")  # beside them, an attention may be a Subgraph
_TOLD = ("layerType", "outputPrecisions", "primitiveType", "originalLayersNames")
_AS_SHIPPED: dict[str, list[dict[str, str]]] = {}
"""The layers of the last int8 IR, by its digest: compiling it takes as long as a dozen runs."""


class OpenVino:
    """Runs IR files on OpenVINO's CPU plugin."""

    name = "openvino"
    evidence = Evidence.NATIVE

    def unavailable(self) -> str | None:
        """None, or which extra to install."""
        return in_one_sentence(missing(*NEEDS))

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """One stream for latency, in the arithmetic that the artifact ships with.

        An IR cannot carry these itself: from `rt_info/runtime_options` the CPU plugin takes the precision of
        caches and the group size of dynamic quantization, not that of inference (`Config::applyRtInfo`).
        """
        execution = artifact.precision.execution
        # Of int8 too: what is not in integers computes in the same arithmetic on every CPU, and bf16 won nothing there.
        floats = _FLOAT32 if execution in (Dtype.FP32, Dtype.INT8) else {"INFERENCE_PRECISION_HINT": _HINTS[execution]}
        return {**_LATENCY, **floats}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `artifact`; in Mode.ORACLE in float32 arithmetic and without the quantizers between operators.

        Raises:
            MissingExtra: openvino is not installed.
            StageFailed: OpenVINO refuses the file, or it does not take one image.
        """
        settings: dict[str, Any] = {}
        if mode is Mode.ORACLE:
            settings = {**_LATENCY, **_FLOAT32, _THREADS: threads}
        elif mode is Mode.SHIPPED:
            settings = {**self.shipped_settings(artifact), _THREADS: threads}
        bare = mode is Mode.ORACLE and artifact.precision.quantized
        with closing(_session(artifact.path, settings, bare=bare, images=takes_images(artifact))) as session:
            yield session


def compiled_as_shipped(model: Any) -> Any:
    """OpenVINO's own compiled model of a model in memory, with the settings that an int8 IR ships with."""
    with refused_by("OpenVINO", "the model in memory", [RuntimeError]):
        return import_openvino().Core().compile_model(model, "CPU", _AS_INT8_SHIPS)


def layers_as_shipped(path: Path) -> list[dict[str, str]]:
    """The executed layers of the int8 IR at `path`: those of the session that was opened on it, if it was the last."""
    key = digest(path)
    if key not in _AS_SHIPPED:
        _keep_layers(key, executed_layers(compiled_as_shipped(import_openvino().Core().read_model(path))))
    return _AS_SHIPPED[key]


def _keep_layers(key: str, layers: list[dict[str, str]]) -> None:
    _AS_SHIPPED.clear()
    _AS_SHIPPED[key] = layers


def _session(path: Path, settings: Mapping[str, Any], *, bare: bool, images: bool) -> OpenSession:
    from runtimes.openvino.fake_quantize import without_quantizers

    core = import_openvino().Core()
    with refused_by("OpenVINO", path.name, [RuntimeError]):
        model = core.read_model(path)
        if bare:
            without_quantizers(model)
        compiled = core.compile_model(model, "CPU", settings)
    if len(compiled.inputs) != 1:
        raise StageFailed(
            f"{path.name} is not a model of images",
            expected="one input",
            got=f"{len(compiled.inputs)} inputs",
            next_step="export the model with the image as its only input",
        )
    outputs = [port_name(port) for port in model.outputs]

    def run(fed: Array | NDArray[np.uint8]) -> Values:
        with refused_by("OpenVINO", f"{path.name} on images {fed.shape}", [RuntimeError]):
            found = compiled(fed)
        return {name: found[index] for index, name in enumerate(outputs)}

    sizes = compiled.input(0).get_partial_shape()
    shape = tuple(None if size.is_dynamic else size.get_length() for size in sizes)
    executed = executed_layers(compiled)
    if settings == _AS_INT8_SHIPS and not bare:
        _keep_layers(digest(path), executed)
    return session_of(_attest(compiled, executed), shape, run, images=images)


def _attest(compiled: Any, executed: Sequence[Mapping[str, str]]) -> Attestation:
    kernels = sorted({layer["primitiveType"] for layer in executed if layer["layerType"] == "Convolution"})
    products = [layer for layer in executed if layer["layerType"] in _PRODUCTS]
    integer = Counter(layer["primitiveType"] for layer in products if _in_integers(layer))
    floats = Counter(layer["primitiveType"] for layer in products if not _in_integers(layer))
    return Attestation(
        runtime="openvino",
        version=version("openvino"),
        precision=Dtype.INT8
        if integer
        else _narrowest({name for layer in executed for name in layer["outputPrecisions"].split(",")}),
        threads=int(compiled.get_property(_THREADS)),
        isa=this_host().isa,
        settings={
            **{name: _as_text(compiled.get_property(name)) for name in _ATTESTED},
            "primitiveType": ", ".join(kernels),
            **({"kernels": _counted(integer), "kernels in floats": _counted(floats) or "none"} if integer else {}),
        },
    )


def executed_layers(compiled: Any) -> list[dict[str, str]]:
    """What a compiled model consists of after OpenVINO's fusions, data apart: as it describes each layer."""
    layers = [_execution_info(layer) for layer in compiled.get_runtime_model().get_ops()]
    return [layer for layer in layers if layer["layerType"] not in _DATA_LAYERS]


def _in_integers(layer: Mapping[str, str]) -> bool:
    """It reads 8-bit integers: the CPU plugin calls such kernels i8, or I8 where they are unsigned."""
    return layer["primitiveType"].lower().endswith("_i8")


def _counted(kernels: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kernels.most_common())


def _execution_info(layer: Any) -> dict[str, str]:
    # Not runtimePrecision: of a convolution whose weights are stored in fp16 that says f16, while the kernel
    # unpacks them and computes in f32.
    info = layer.get_rt_info()
    return {name: info[name].astype(str) for name in _TOLD}


def _narrowest(precisions: set[str]) -> Dtype:
    """The least precise float arithmetic that a layer executes in; the hint is only a request."""
    return next((dtype for dtype in (Dtype.BF16, Dtype.FP16) if _HINTS[dtype] in precisions), Dtype.FP32)


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if hasattr(value, "to_string"):  # an element type
        return str(value.to_string())
    return str(getattr(value, "name", value))  # an enum member, a number or a text
