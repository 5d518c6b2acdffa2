"""One tiny model as every kind of file, and what PyTorch says of it."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import ModelSpec, model_spec
from efficientvit.weights.seeded import seeded
from runtimes.artifact import Artifact, Format
from runtimes.openvino.package import import_openvino

Images = NDArray[np.float32]


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    return model_spec("m0", square(64), 10)


@pytest.fixture(scope="session")
def module(spec: ModelSpec) -> EfficientViT:
    return seeded(spec)


@pytest.fixture(scope="session")
def images() -> Images:
    """Five distinct images, (5, 3, 64, 64)."""
    rng = np.random.Generator(np.random.PCG64(0))
    return rng.standard_normal((5, 3, 64, 64), dtype=np.float32)


@pytest.fixture(scope="session")
def expected(module: EfficientViT, images: Images) -> Images:
    """Logits of `images`, (5, 10), far enough apart that no two can be mistaken for one another."""
    with torch.inference_mode():
        logits = module(torch.from_numpy(images)).numpy()
    distances = np.linalg.norm(logits[:, None] - logits[None], axis=2)
    assert distances[~np.eye(len(images), dtype=bool)].min() > 1e-2 * np.linalg.norm(logits, axis=1).max()
    return np.asarray(logits)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="session")
def onnx_any_batch(module: EfficientViT, folder: Path) -> Artifact:
    path = folder / "any.onnx"
    with warnings.catch_warnings():
        # The tracer is deprecated and ten times faster; what is tested here is not the exporter.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, 64, 64),),
            path,
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )
    return Artifact.on_disk(path, Format.ONNX, module.spec, made_by="test", batch=None)


@pytest.fixture(scope="session")
def onnx_batch_1(onnx_any_batch: Artifact, folder: Path) -> Artifact:
    model = onnx.load(onnx_any_batch.path)
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "one.onnx")
    return Artifact.on_disk(folder / "one.onnx", Format.ONNX, onnx_any_batch.model, made_by="test", batch=1)


def _ir(source: Artifact) -> Artifact:
    openvino = import_openvino()
    path = source.path.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(source.path), path, compress_to_fp16=False)
    return Artifact.on_disk(path, Format.OPENVINO, source.model, made_by="test", batch=source.batch)


@pytest.fixture(scope="session")
def ir_any_batch(onnx_any_batch: Artifact) -> Artifact:
    return _ir(onnx_any_batch)


@pytest.fixture(scope="session")
def ir_batch_1(onnx_batch_1: Artifact) -> Artifact:
    return _ir(onnx_batch_1)


Save = Callable[..., Path]
Read = Callable[[Path], Any]
Infer = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Convert a program to a Core ML package, in float32 unless told otherwise, and save it."""
    import coremltools as ct

    def saved(program: Any, ios: int = 15, **options: Any) -> Path:
        options = {"compute_precision": ct.precision.FLOAT32, **options}
        target = ct.target[f"iOS{ios}"]
        model = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True, **options
        )
        path = tmp_path_factory.mktemp("package") / "saved.mlpackage"
        model.save(str(path))
        return path

    return saved


@pytest.fixture(scope="session")
def read_by_coremltools() -> Read:
    """The main function of a saved package as coremltools' own loader reads it."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    def read(package: Path) -> Any:
        spec = ct.utils.load_spec(str(package))
        weights = package / "Data" / "com.apple.CoreML" / "weights"
        return load(spec, spec.specificationVersion, str(weights)).functions["main"]

    return read


@pytest.fixture(scope="session")
def infer() -> Infer:
    """What coremltools' `value_inference` makes of constants: the values of an operation's outputs."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder, Function

    def inferred(kind: str, ios: int = 18, **inputs: Any) -> list[Any]:
        with Function({}, opset_version=ct.target[f"iOS{ios}"]):
            result = getattr(Builder, kind)(**inputs)
        return [output.val for output in (result if isinstance(result, list | tuple) else [result])]

    return inferred
