"""What people would make of the same weights and photos with the tools at hand (`vit-export bench --peers`)."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed, VitExportError
from export.workers import output_capture
from export.workers.progress import Step
from runtimes.external import open_foreign
from runtimes.host.machine import this_host
from runtimes.host.packages import missing
from runtimes.openvino.package import import_openvino
from runtimes.precision import Dtype
from validation.external.judge import judge_foreign
from validation.verdict import Verdict

if TYPE_CHECKING:
    from validation.reference.model import ReferenceModel

Photos = NDArray[np.float32]
"""(n, 3, H, W), normalized."""

Make = Callable[[Path, Photos, int, Path], object]
"""From timm's own ONNX export and the photos, for batches of so many, to the new file."""

_BF16 = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True, slots=True)
class Rival:
    """One way to make a file. `calibrated`: on photos; `needs`: a package that no other part of vit-export needs."""

    target: str
    suffix: str
    make: Make
    calibrated: bool = True
    needs: str | None = None
    execution: Dtype | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a rival: a verdict, or why there is none."""

    name: str
    target: str
    verdict: Verdict | None
    why: str = ""


def judged_rivals(
    stock: Path,
    photos: Photos | None,
    batch: int,
    out: Path,
    reference: "ReferenceModel",
    targets: Collection[str],
    step: Step,
) -> Iterator[Found]:
    """Make each of `RIVALS` for the targets asked for, and judge it as `vit-export judge` does.

    `stock`: timm's own ONNX export for this batch. `photos`: what our int8 is calibrated on; None: no int8 is made.
    """
    spec = reference.trained.spec
    out.mkdir(parents=True, exist_ok=True)
    for name, rival in RIVALS.items():
        if rival.target not in targets:
            continue
        if (why := _impossible(rival, photos)) is not None:
            yield Found(name, rival.target, None, why)
            continue
        step(f"{spec.name}: {name}, batch {batch}")
        path = out / f"{name}{rival.suffix}"
        given = np.zeros((0, *spec.image_size.nchw(1)[1:]), np.float32) if photos is None else photos
        try:
            with output_capture.into(out / "log.txt"):
                _made(rival, stock, given, batch, path)
                foreign = open_foreign(path, spec.name, spec.classes)
                if rival.execution is not None:
                    precision = replace(foreign.artifact.precision, execution=rival.execution)
                    foreign = replace(foreign, artifact=replace(foreign.artifact, precision=precision))
                verdict = judge_foreign(foreign, reference).verdict
        except VitExportError as error:
            yield Found(name, rival.target, None, f"{error.what}{f': {error.got}' if error.got else ''}")
            continue
        yield Found(name, rival.target, verdict)


def _impossible(rival: Rival, photos: Photos | None) -> str | None:
    """Why it cannot be made here."""
    if rival.calibrated and photos is None:
        return "it is calibrated on photos: name them with --calibrate"
    if rival.execution is Dtype.BF16 and not set(_BF16) & set(this_host().extensions):
        return "this CPU does not compute in bfloat16"
    if rival.needs is not None and (absent := missing(rival.needs, "peers", "making its files")) is not None:
        return f"{absent.what}: {absent.next_step}"
    return None


def _made(rival: Rival, stock: Path, photos: Photos, batch: int, path: Path) -> None:
    try:
        rival.make(stock, photos, batch, path)
    except VitExportError:
        raise
    except Exception as error:  # the tool's own, of any kind
        raise StageFailed("the tool failed", got=f"{type(error).__name__}: {error}"[:300]) from error


def _batches(photos: Photos, batch: int) -> Iterator[Photos]:
    """All photos, the last batch filled up from the first ones."""
    for start in range(0, len(photos), batch):
        yield np.ascontiguousarray(np.take(photos, range(start, start + batch), axis=0, mode="wrap"))


def _quantize_static(stock: Path, photos: Photos, batch: int, path: Path, **options: Any) -> None:
    """As ONNX Runtime documents it: preprocess, then quantize. `options`: beyond the defaults."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    (name,) = (
        each.name for each in onnxruntime.InferenceSession(stock, providers=["CPUExecutionProvider"]).get_inputs()
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(photos, batch)

        def get_next(self) -> dict[str, Photos] | None:
            each = next(self._batches, None)
            return None if each is None else {name: each}

    simplified = path.with_name(f"preprocessed-{path.name}")
    quant_pre_process(stock, simplified)
    quantize_static(simplified, path, Reader(), **options)
    simplified.unlink()


def _fastest(stock: Path, photos: Photos, batch: int, path: Path) -> None:
    """What x86 multiplies fast: unsigned activations, signed weights with a scale for each channel."""
    from onnxruntime.quantization import QuantType

    _quantize_static(
        stock, photos, batch, path, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8
    )


def _convolutions(stock: Path, photos: Photos, batch: int, path: Path) -> None:
    """The same around convolutions and the classifier alone, which loses less."""
    from onnxruntime.quantization import QuantType

    kinds = {"op_types_to_quantize": ["Conv", "Gemm"]}
    _quantize_static(
        stock, photos, batch, path, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        **kinds,
    )  # fmt: skip


def _converted(stock: Path, _: Photos, __: int, path: Path) -> None:
    """As OpenVINO documents it; weights are saved in float16, which is its default."""
    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(stock), path)


def _nncf(preset: str, *, transformer: bool = False) -> Make:
    """NNCF's post-training quantization for OpenVINO."""

    def make(stock: Path, photos: Photos, batch: int, path: Path) -> None:
        openvino = import_openvino()
        with _silent():
            import nncf

            model_type = nncf.ModelType.TRANSFORMER if transformer else None
            batches = list(_batches(photos, batch))
            quantized = nncf.quantize(
                openvino.convert_model(stock),
                nncf.Dataset(batches),
                preset=nncf.QuantizationPreset(preset),
                model_type=model_type,
                subset_size=len(batches),
            )
        openvino.save_model(quantized, path, compress_to_fp16=False)

    return make


@contextmanager
def _silent() -> Iterator[None]:
    """NNCF reports each quantization to its makers unless it takes itself to be under test."""
    name = "NNCF_CI"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


RIVALS: Mapping[str, Rival] = {
    "quantize_static": Rival("onnx", ".onnx", _quantize_static),
    "quantize_static-u8s8": Rival("onnx", ".onnx", _fastest),
    "quantize_static-conv": Rival("onnx", ".onnx", _convolutions),
    "converted": Rival("openvino", ".xml", _converted, calibrated=False),
    "converted-bf16": Rival("openvino", ".xml", _converted, calibrated=False, execution=Dtype.BF16),
    "nncf-performance": Rival("openvino", ".xml", _nncf("performance"), needs="nncf"),
    "nncf-mixed": Rival("openvino", ".xml", _nncf("mixed"), needs="nncf"),
    "nncf-transformer": Rival("openvino", ".xml", _nncf("mixed", transformer=True), needs="nncf"),
}
"""In the place of a precision."""
