"""The Core ML package as an app gets it: pixels of a photograph in, the trained model's answer out.

Wrong packages are made as somebody would make them: by the real converter, of a form prepared in another way. Those,
and the compressed ones, are of a model with one block a stage and one head: how many is not what is tested here. At
112 its first window has 49 tokens, as at 224, so that an attention bias is large enough to be compressed.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.optimize import coreml as optimize
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.export import ExportedProgram

from efficientvit.deploy.compression import LEAST_ELEMENTS, compressible
from efficientvit.deploy.image_input import divided_by_std
from efficientvit.images.labels import imagenet
from efficientvit.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, load_rgb, to_uint8
from efficientvit.model import EfficientViT
from efficientvit.size import ImageSize, square
from efficientvit.spec import ModelSpec, model_spec
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import Weights
from export.targets.coreml import compress, convert
from export.targets.coreml.options import IOS, CoreMlOptions
from export.targets.coreml.program import interface_of, program
from export.targets.coreml.validated_once import validated_once
from export.targets.registry import TARGETS
from export.targets.target import Job
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format, Interface
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.coreml.mlpackage import load_program
from runtimes.coreml.operators import MIL
from runtimes.coreml.reader import source_name
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import Constant
from runtimes.interface import OUTPUT
from runtimes.precision import PALETTE_BITS, Dtype, Precision
from runtimes.registry import read_ports
from runtimes.runtime import Mode
from tests.stages import STAGES
from validation.budgets import Budgets
from validation.inputs.golden_set import Kind
from validation.inputs.photos import photos
from validation.judge import judge
from validation.metrics import relative_error, snr_db
from validation.reference.model import ReferenceModel
from validation.verdict import Rejected, VerifiedArtifact

PHOTOS = ("astronaut", "chelsea", "coffee")
FP32, FP16 = Precision(), Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coreml")


@pytest.fixture(scope="module")
def jpegs(folder: Path) -> Path:
    """Three photographs as a phone stores them."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    (folder / "photos").mkdir()
    for name in PHOTOS:
        with Image.open(Path(spec.origin).parent / "data" / f"{name}.png") as image:
            image.convert("RGB").save(folder / "photos" / f"{name}.jpg", quality=90)
    return folder / "photos"


def _workshop(spec: ModelSpec, jpegs: Path, folder: Path) -> Workshop:
    """Where a seeded model's packages are made; judged on the photographs alone."""
    weights = Weights(seeded(spec), "seeded:0", "0" * 64, trained=False, suffix="untrained")
    golden = photos(jpegs, Preprocessing(image_size=spec.image_size))
    return Workshop(weights, ReferenceModel(weights.model, golden), folder)


@pytest.fixture(scope="module")
def real(jpegs: Path, folder: Path) -> Workshop:
    """M0 at its own size, with ImageNet's classes."""
    return _workshop(model_spec("m0"), jpegs, folder / "real")


@pytest.fixture(scope="module")
def small(jpegs: Path, folder: Path) -> Workshop:
    spec = dataclasses.replace(model_spec("m0", square(112), 12), depths=(1, 1, 1), heads=(1, 1, 1))
    return _workshop(spec, jpegs, folder / "small")


def _job(**options: Any) -> Job:
    return Job("m0", TARGETS["coreml"], "fp16", 1, 18, CoreMlOptions(**options))


def _made(shop: Workshop, precision: Precision, **options: Any) -> Artifact:
    """The package of the real stage; in a folder that the next one doesn't write to, and made once."""
    folder = shop.folder / "-".join([str(precision.execution), *map(str, options.values())])
    key = (folder, precision)
    if key not in _KNOWN:
        _KNOWN[key] = STAGES["coreml"](dataclasses.replace(shop, folder=folder), _job(**options), precision, None)
    return _KNOWN[key]


_KNOWN: dict[tuple[Path, Precision], Artifact] = {}


def _pixels(jpegs: Path, size: ImageSize) -> list[Pixels]:
    preprocessing = Preprocessing(image_size=size)
    return [to_uint8(load_rgb(jpegs / f"{name}.jpg", preprocessing), preprocessing) for name in PHOTOS]


def _right(trained: EfficientViT, pixels: list[Pixels]) -> NDArray[np.float64]:
    """The trained form in float64, normalized by hand: nothing of what is tested has a part in it."""
    unit = torch.tensor(np.stack(pixels)).double().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    model = EfficientViT(trained.spec).eval().double()
    model.load_state_dict(trained.state_dict())
    with torch.inference_mode():
        right: NDArray[np.float64] = model((unit - mean) / std).numpy()
    return right


def _logits(artifact: Artifact, pixels: list[Pixels]) -> NDArray[np.float32]:
    with MilEvaluator().open(artifact, Mode.SHIPPED) as session:
        return np.concatenate([session(image[None])["logits"] for image in pixels])


@pytest.mark.parametrize("precision", [FP32, FP16], ids=["fp32", "fp16"])
def test_a_jpegs_pixels_give_the_trained_models_answer(precision: Precision, real: Workshop, jpegs: Path) -> None:
    """In float32 to its rounding: the division of the first weights by std costs nothing. In fp16 what fp16 costs."""
    artifact = _made(real, precision)
    pixels = _pixels(jpegs, square(224))
    right = _right(real.weights.model, pixels)
    errors = relative_error(_logits(artifact, pixels), right)
    reference = real.reference.at(precision, image_input=True)
    assert errors.max() <= reference.classifier.precision_budget(Kind.PHOTO)
    assert snr_db(errors.max()) >= (105 if precision is FP32 else 35)
    with MilEvaluator().open(artifact, Mode.SHIPPED) as session:
        answers = [session.classify(image[None]) for image in pixels]
    labels = imagenet()
    assert [label for label, _ in answers] == [labels[i] for i in right.argmax(axis=1)]
    assert all(sum(probabilities.values()) == pytest.approx(1, abs=1e-2) for _, probabilities in answers)
    verdict = judge(artifact, reference, MilEvaluator(), Budgets(readiness=0.99 if precision is FP16 else None))
    assert isinstance(verdict, VerifiedArtifact)


# Packages that somebody would make by another recipe.


def _image(scale: float, bias: list[float], layout: Any = ct.colorlayout.RGB) -> Callable[[tuple[int, ...], Any], Any]:
    return lambda shape, _: ct.ImageType("image", shape=shape, scale=scale, bias=bias, color_layout=layout)


MEAN, STD = torch.tensor(IMAGENET_MEAN).double(), torch.tensor(IMAGENET_STD).double()
MINUS_MEAN = [-mean for mean in IMAGENET_MEAN]


class _NormalizedOnceMore(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, net: EfficientViT) -> None:
        super().__init__()
        self.net, self.spec = net, net.spec
        self.register_buffer("mean", MEAN.float().reshape(1, 3, 1, 1))
        self.register_buffer("std", STD.float().reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.net((image - self.mean) / self.std)
        return y


def _undivided(shop: Workshop) -> ExportedProgram:
    return program(shop, _job(input="tensor"), labeled=False)


def _divided(shop: Workshop) -> ExportedProgram:
    return program(shop, _job(), labeled=False)


def _captured(net: Any) -> ExportedProgram:
    return convert.capture_for_coreml(net, 1, labeled=False)


@torch.no_grad()
def _mean_in_first_bias(shop: Workshop) -> ExportedProgram:
    """W(p - mean) = Wp - W mean, which forgets that the padding was the mean and now is black."""
    net = divided_by_std(shop.reference.rewritten, IMAGENET_STD)
    first = net.stem[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    first.bias -= (first.weight * MEAN.reshape(1, 3, 1, 1)).sum((1, 2, 3))
    return _captured(net.float())


@torch.no_grad()
def _trained_on_bgr(shop: Workshop) -> ExportedProgram:
    """The weights of somebody whose images come from OpenCV, behind an image input that says RGB."""
    net = divided_by_std(shop.reference.rewritten, IMAGENET_STD).float()
    first = net.stem[0]
    assert isinstance(first, nn.Conv2d)
    first.weight.copy_(first.weight.flip(1))
    return _captured(net)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """Another recipe: what is converted, behind which image input, and gates that must be among those that see it."""

    form: Callable[[Workshop], ExportedProgram]
    image: Callable[[tuple[int, ...], Any], Any]
    seen_by: frozenset[str]


NUMBERS = frozenset({"constants", "precision"})
RECIPES = {
    "std forgotten": Wrong(_undivided, _image(1 / 255, MINUS_MEAN), NUMBERS),
    "one average std for all channels": Wrong(
        _undivided,
        _image(1 / (0.226 * 255), [-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]),
        NUMBERS,
    ),
    "mean in the first bias": Wrong(_mean_in_first_bias, _image(1 / 255, [0, 0, 0]), frozenset({"interface"})),
    "BGR image": Wrong(
        _divided,
        _image(1 / 255, MINUS_MEAN, ct.colorlayout.BGR),
        frozenset({"interface"}),
    ),
    "BGR weights": Wrong(_trained_on_bgr, _image(1 / 255, MINUS_MEAN), NUMBERS),
    "normalized twice": Wrong(
        lambda shop: _captured(_NormalizedOnceMore(shop.deploy).eval()), _image(1 / 255, MINUS_MEAN), NUMBERS
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_recipe_is_rejected(
    recipe: str, small: Workshop, jpegs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = RECIPES[recipe]
    monkeypatch.setattr(convert, "_image", wrong.image)
    artifact = convert.to_coreml(
        wrong.form(small),
        small.deploy.spec,
        tmp_path / "efficientvit_m0.mlpackage",
        batch=1,
        activations=Dtype.FP32,
        interface=interface_of(small, _job(), FP32),
        preprocessing=small.reference.golden.preprocessing,
        ios=15,
        made_by="coreml",
    )
    assert _worst_db(artifact, small, jpegs) < 40, "the recipe is not wrong enough to be a fault"
    verdict = judge(artifact, small.reference.at(FP32, image_input=True), MilEvaluator())
    assert isinstance(verdict, Rejected)
    assert {gate.gate for gate in verdict.report.gates if not gate.passed} >= wrong.seen_by


def _worst_db(artifact: Artifact, shop: Workshop, jpegs: Path) -> float:
    """Over the photographs, fed as Core ML feeds them: in the order of colors that the package asks for."""
    pixels = _pixels(jpegs, shop.deploy.spec.image_size)
    ((port,), _) = read_ports(artifact)
    evaluator = Evaluator(load_program(artifact.path), Arithmetic.FLOAT32, MIL, (OUTPUT,))
    fed = [np.moveaxis(image[..., ::-1] if port.dtype == "BGR" else image, 2, 0)[None] for image in pixels]
    logits = np.concatenate([evaluator({"image": image.astype(np.float32)})[OUTPUT].numpy() for image in fed])
    return snr_db(relative_error(logits, _right(shop.weights.model, pixels)).max())


def test_the_recipe_that_is_ours_passes_where_they_fail(small: Workshop, jpegs: Path) -> None:
    artifact = _made(small, FP32)
    assert _worst_db(artifact, small, jpegs) >= 100
    verdict = judge(artifact, small.reference.at(FP32, image_input=True), MilEvaluator())
    assert isinstance(verdict, VerifiedArtifact)


def test_work_that_is_not_fit_for_the_neural_engine_can_be_a_reason_to_reject(small: Workshop) -> None:
    """A float32 package computes nothing there. What nobody set a budget for is no reason: the test above."""
    reference = small.reference.at(FP32, image_input=True)
    verdict = judge(_made(small, FP32), reference, MilEvaluator(), Budgets(readiness=0.95))
    assert isinstance(verdict, Rejected)
    assert [gate.gate for gate in verdict.report.gates if not gate.passed] == ["readiness"]
    assert "0.0% of the work is fit for the Neural Engine, by a heuristic: conv " in verdict.reason
    assert "fp32, where it computes in fp16" in verdict.reason


# iOS versions.

SPECIFICATION = {15: 6, 16: 7, 17: 8, 18: 9}
"""Of Core ML's format, by the oldest iOS that reads it (coremltools, `SPECIFICATION_VERSION` of each target)."""


@pytest.mark.parametrize("ios", IOS)
def test_every_ios_gets_its_own_format_and_floats_at_the_ports(ios: int, small: Workshop) -> None:
    """Read by coremltools. From iOS 16 on its own default for an fp16 program is fp16 at the ports."""
    artifact = _made(small, FP16, input="tensor", labels="none", ios=ios)
    model = ct.utils.load_spec(str(artifact.path))
    assert model.specificationVersion == SPECIFICATION[ios]
    ports = (*model.description.input, *model.description.output)
    assert [port.name for port in ports] == ["image", "logits"]
    float32 = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    assert {port.type.multiArrayType.dataType for port in ports} == {float32}
    verdict = judge(artifact, small.reference.at(FP16), MilEvaluator())
    assert isinstance(verdict, VerifiedArtifact)


def test_imagenets_names_are_a_thousand_in_the_package(real: Workshop) -> None:
    """As Core ML finds them: two cranes and two maillots told apart, or one would take the other's probability."""
    model = ct.utils.load_spec(str(_made(real, FP16).path))
    (function,) = model.mlProgram.functions.values()
    (classify,) = [op for op in function.block_specializations[function.opset].operations if op.type == "classify"]
    values = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
    names = [value.immediateValue.tensor.strings.values[0] for value in values]
    assert names == list(imagenet())
    assert len(set(names)) == 1000
    assert model.description.predictedFeatureName == "classLabel"
    assert model.description.predictedProbabilitiesName == "probabilities"


# Compressed weights.


@dataclasses.dataclass(frozen=True)
class Compressed:
    before: Artifact
    after: Artifact
    chosen: frozenset[str]

    @property
    def bits(self) -> int:
        return PALETTE_BITS.get(self.after.precision.weights, 8)


FORMS = [
    (Dtype.INT8, 16),
    (Dtype.PALETTE8, 16),
    (Dtype.PALETTE6, 16),
    (Dtype.PALETTE4, 16),
    (Dtype.INT8, 18),  # iOS 18 has other operations for the same
    (Dtype.PALETTE4, 18),
]


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: f"{form[0]}-ios{form[1]}")
def compressed(request: pytest.FixtureRequest, small: Workshop) -> Compressed:
    weights, ios = request.param
    bits, method = (8, "linear") if weights is Dtype.INT8 else (PALETTE_BITS[weights], "palette")
    before = _made(small, FP16, labels="none", ios=ios)
    job = _job(labels="none", ios=ios, weights_bits=bits, weights_method=method)
    shop = dataclasses.replace(small, folder=small.folder / f"{weights}-{ios}")
    after = STAGES["compress"](shop, job, job.plan[-1][1], before)
    chosen = frozenset(name.replace(".", "_") for name in compressible(small.reference.image_deploy))
    return Compressed(before, after, chosen)


def _tensors(artifact: Artifact) -> dict[str, Constant]:
    constants = load_program(artifact.path).constants
    return {source_name(name): c for name, c in constants.items() if isinstance(c.value, np.ndarray)}


def test_it_answers_as_coremltools_own_decompression(compressed: Compressed, jpegs: Path, tmp_path: Path) -> None:
    """coremltools writes the weights out in fp16; from those and from the compressed form come the same bits."""
    packed = ct.models.MLModel(str(compressed.after.path), skip_model_load=True)
    path = tmp_path / "decompressed.mlpackage"
    with validated_once():
        optimize.decompress_weights(packed).save(str(path))
    after = compressed.after
    plain = Artifact.on_disk(
        path, Format.COREML, after.model, made_by="test", precision=FP16, interface=Interface(True)
    )
    assert {constant.stored for constant in _tensors(plain).values()} == {"const"}
    pixels = _pixels(jpegs, after.model.image_size)
    assert np.array_equal(_logits(after, pixels), _logits(plain, pixels))


@pytest.mark.parametrize("compressed", [(Dtype.INT8, 16), (Dtype.PALETTE4, 16)], indirect=True, ids=str)
def test_coremltools_may_validate_a_compressed_package_once(
    compressed: Compressed, small: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are those that come where it validates its program after each of its passes."""
    monkeypatch.setattr(compress, "validated_once", nullcontext)
    after = compressed.after
    weights, interface = after.precision.weights, after.interface
    often = compress.compress(
        compressed.before, small.reference.image_deploy, tmp_path / "m0.mlpackage", weights, interface
    )
    assert often.sha256 == after.sha256


def test_large_dense_weights_are_compressed_and_the_rest_stays_bit_for_bit(compressed: Compressed) -> None:
    before, after = _tensors(compressed.before), _tensors(compressed.after)
    assert {name for name, constant in after.items() if constant.stored != "const"} == compressed.chosen
    kept = [name for name in before if name not in compressed.chosen]
    large = [name for name in kept if np.size(before[name].value) >= LEAST_ELEMENTS]
    assert any("mixer_branch_bias" in name for name in large)
    assert any("depthwise" in name for name in kept)
    for name in kept:
        one, other = before[name].value, after[name].value
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert one.tobytes() == other.tobytes(), name


def test_it_shrinks_by_what_the_bits_promise(compressed: Compressed) -> None:
    """16 bits of each compressed weight become 8, 6 or 4; a table or the scales come on top."""
    sizes = [
        (artifact.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size
        for artifact in (compressed.before, compressed.after)
    ]
    tensors = _tensors(compressed.before)
    packed = sum(np.size(tensors[name].value) for name in compressed.chosen)
    promised = sizes[0] - packed * (16 - compressed.bits) / 8
    assert promised <= sizes[1] <= promised + 0.04 * sizes[0]


def test_only_the_quality_gate_has_a_say_in_what_it_costs(compressed: Compressed, small: Workshop) -> None:
    """Whatever is left of the weights, the package must compute what they say: it is judged against them decoded."""
    reference = small.reference.at(compressed.after.precision, image_input=True)
    verdict = judge(compressed.after, reference, MilEvaluator())
    assert verdict.report is not None
    failed = {gate.gate for gate in verdict.report.gates if not gate.passed}
    assert failed <= {"quality"}
    assert "quality" in {gate.gate for gate in verdict.report.gates}


def test_fewer_bits_cost_more(small: Workshop) -> None:
    """Worst first: a palette of 16 values, of 64, of 256."""
    costs = []
    for weights in (Dtype.PALETTE4, Dtype.PALETTE6, Dtype.PALETTE8):
        reference = small.reference.at(Precision(weights, Dtype.FP16, Dtype.FP16), image_input=True)
        costs.append(float(relative_error(reference.classifier.structure, reference.logits).max()))
    assert costs[0] > 2 * costs[1] > 4 * costs[2] > 0
