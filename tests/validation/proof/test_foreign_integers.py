"""Quantized files of other tools are proven without their quantizers; files that take pixels, with them normalized."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import Tensor, nn

from efficientvit.deploy.image_input import ImageInput, divided_by_std
from efficientvit.deploy.rewrites import rewritten
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.external import open_foreign
from tests.validation.proof.wrong_onnx import CHANGES, changed
from validation.proof.foreign import Feeding, ForeignProof, prove_foreign
from validation.proof.outcome import Outcome

SIZE = square(64)
IMAGES = (1, 3, 64, 64)


@pytest.fixture(scope="module")
def model() -> EfficientViT:
    return seeded(model_spec("m0", SIZE))


def exported(module: nn.Module, path: Path, image: Tensor) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (image,), path, dynamo=False, input_names=["image"], output_names=["logits"],
                          opset_version=17)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def floats(model: EfficientViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(model, tmp_path_factory.mktemp("floats") / "floats.onnx", torch.zeros(IMAGES))


class _Noise(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    def __init__(self) -> None:
        stream = np.random.default_rng(0)
        self._images = iter([{"image": stream.standard_normal(IMAGES, np.float32)} for _ in range(2)])

    def get_next(self) -> Any:
        return next(self._images, None)


def _qdq(source: Path, out: Path) -> None:
    quantize_static(source, out, _Noise())


def _qoperator(source: Path, out: Path) -> None:
    quantize_static(source, out, _Noise(), quant_format=QuantFormat.QOperator, per_channel=True)


def _dynamic(source: Path, out: Path) -> None:
    quantize_dynamic(source, out, weight_type=QuantType.QUInt8)


DIALECTS: dict[str, Callable[[Path, Path], None]] = {"QDQ": _qdq, "QOperator": _qoperator, "dynamic": _dynamic}


@pytest.fixture(scope="module")
def quantized(floats: Path) -> Callable[[str], Path]:
    """By ONNX Runtime's own quantizer, once."""

    def make(dialect: str) -> Path:
        path = floats.with_name(f"{dialect}.onnx")
        if not path.exists():
            DIALECTS[dialect](floats, path)
        return path

    return make


def proven(path: Path, model: EfficientViT) -> ForeignProof:
    return prove_foreign(open_foreign(path, "m0", 1000), model, probabilities=False)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_integers_of_every_dialect_are_proven(
    dialect: str, quantized: Callable[[str], Path], model: EfficientViT
) -> None:
    found = proven(quantized(dialect), model)
    assert found.proof.outcome is Outcome.PROVEN, found
    assert found.quantized
    assert found.replaced > 120


@pytest.mark.parametrize("dialect", ["QOperator", "dynamic"])
def test_a_weight_two_units_off_is_nobodys(
    dialect: str, quantized: Callable[[str], Path], model: EfficientViT, tmp_path: Path
) -> None:
    file = onnx.load(quantized(dialect))
    kind = onnx.TensorProto.UINT8 if dialect == "dynamic" else onnx.TensorProto.INT8
    weight = next(each for each in file.graph.initializer if each.data_type == kind and len(each.dims) == 4)
    value = numpy_helper.to_array(weight).copy()
    value.flat[7] = int(value.flat[7]) + (2 if value.flat[7] < 100 else -2)
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    onnx.save(file, tmp_path / "off.onnx")
    found = proven(tmp_path / "off.onnx", model)
    assert found.proof.outcome is Outcome.SAMPLED, found
    assert "could not be traced" in found.proof.detail
    assert not found.refused  # quality decides


def test_weights_alone_in_integers_are_proven(floats: Path, model: EfficientViT, tmp_path: Path) -> None:
    file = onnx.load(floats)
    for weight in [each for each in file.graph.initializer if len(each.dims) == 4]:
        value = numpy_helper.to_array(weight)
        scale = np.array(np.abs(value).max() / 127, np.float32)
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(np.round(value / scale).astype(np.int8), f"{name}_codes"))
        file.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        decoder = onnx.helper.make_node("DequantizeLinear", [f"{name}_codes", f"{name}_scale"], [name])
        file.graph.node.insert(0, decoder)
    onnx.save(file, tmp_path / "weights.onnx")
    found = proven(tmp_path / "weights.onnx", model)
    assert found.proof.outcome is Outcome.PROVEN, found
    assert found.quantized


def test_integers_decoded_by_another_scale_are_not_proven(
    quantized: Callable[[str], Path], model: EfficientViT, tmp_path: Path
) -> None:
    file = onnx.load(quantized("QDQ"))
    makers = {node.output[0]: node for node in file.graph.node}
    decoder = next(n for n in file.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in makers)
    file.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "another"))
    decoder.input[1] = "another"
    onnx.save(file, tmp_path / "scale.onnx")
    found = proven(tmp_path / "scale.onnx", model)
    assert found.proof.outcome is Outcome.SAMPLED
    assert "another scale than it was quantized by" in found.proof.detail


def test_what_no_image_shows_is_refused_of_integers_too(
    quantized: Callable[[str], Path], model: EfficientViT, tmp_path: Path
) -> None:
    for name in ("once in a thousand runs", "a branch"):
        onnx.save(changed(onnx.load(quantized("QDQ")), CHANGES[name]), tmp_path / "wrong.onnx")
        found = proven(tmp_path / "wrong.onnx", model)
        assert found.refused, name


class _OfPixels(nn.Module):
    """Takes (B, H, W, 3) bytes."""

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std = (nn.Buffer(torch.tensor(each).view(1, 3, 1, 1)) for each in (mean, std))

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.model((image.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)
        return y


def test_a_file_that_normalizes_pixels_is_proven_by_mean_and_std(model: EfficientViT, tmp_path: Path) -> None:
    contract = Preprocessing(SIZE)
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)

    def found(std: tuple[float, ...]) -> ForeignProof:
        path = exported(_OfPixels(model, contract.mean, std), tmp_path / "pixels.onnx", pixels)
        return prove_foreign(
            open_foreign(path, "m0", 1000), model, probabilities=False, contract=contract, feeding=Feeding(255.0)
        )

    assert found(contract.std).proof.outcome is Outcome.PROVEN
    wrong = found((0.5, 0.5, 0.5)).proof
    assert wrong.outcome is Outcome.SAMPLED
    assert "as normalizing by the checkpoint's mean and std it differs" in wrong.detail


@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_a_file_whose_first_convolution_divides_by_std_is_proven(
    model: EfficientViT, tmp_path: Path, scale: float
) -> None:
    """As this project's own Core ML packages of images do; or by 255 times std."""
    contract, folded = Preprocessing(SIZE), rewritten(model)

    def found(std: tuple[float, ...]) -> ForeignProof:
        form = divided_by_std(folded, [each * 255 * scale for each in std]).float()
        bias = -torch.tensor(contract.mean).reshape(1, 3, 1, 1) * 255 * scale
        path = exported(ImageInput(form, torch.tensor(scale), bias), tmp_path / "pixels.onnx", torch.zeros(IMAGES))
        return prove_foreign(
            open_foreign(path, "m0", 1000), model, probabilities=False, contract=contract, feeding=Feeding(255.0)
        )

    right = found(contract.std)
    assert right.proof.outcome is Outcome.PROVEN, right
    wrong = found(contract.std[::-1])
    assert wrong.proof.outcome is Outcome.SAMPLED
    assert "could not be traced to the checkpoint" in wrong.proof.detail


def test_one_class_is_proven_by_its_sigmoid(tmp_path: Path) -> None:
    model = seeded(model_spec("m0", SIZE, 1))
    path = exported(nn.Sequential(model, nn.Sigmoid()), tmp_path / "one.onnx", torch.zeros(IMAGES))
    found = prove_foreign(open_foreign(path, "m0", 1), model, probabilities=True)
    assert found.proof.outcome is Outcome.PROVEN, found


def test_a_relu_that_went_into_a_quantizer_is_put_back_where_that_clips_at_zero(
    quantized: Callable[[str], Path], model: EfficientViT, tmp_path: Path
) -> None:
    file = onnx.load(quantized("QDQ"))
    assert not any(node.op_type == "Relu" for node in file.graph.node)  # and yet it is proven, above
    held = {tensor.name: tensor for tensor in file.graph.initializer}
    first = next(node for node in file.graph.node if node.op_type == "Conv")
    after = next(n for n in file.graph.node if first.output[0] in n.input and n.op_type == "QuantizeLinear")
    zero = numpy_helper.to_array(held[after.input[2]])
    held[after.input[2]].CopyFrom(numpy_helper.from_array((zero + 9).astype(zero.dtype), after.input[2]))
    onnx.save(file, tmp_path / "lost.onnx")
    lost = proven(tmp_path / "lost.onnx", model)
    assert lost.proof.outcome is Outcome.SAMPLED
    assert "without its quantizers it differs" in lost.proof.detail
