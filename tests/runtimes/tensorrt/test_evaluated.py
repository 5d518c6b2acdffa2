"""The network that TensorRT's parser made of our files, and of other people's models, evaluated against PyTorch."""

import contextlib
import copy
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from efficientvit.errors import BadInput
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.source import find_weights
from export.targets.registry import SHARED, TARGETS
from export.targets.target import Job
from export.targets.tensorrt.options import TensorRtOptions
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.host import packages
from runtimes.interface import intended_ports
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Dtype
from runtimes.registry import count_operators, read_constants, read_ports, unexpected_operators
from runtimes.runtime import Evidence, Mode
from runtimes.tensorrt import api
from runtimes.tensorrt.evaluated import TrtNetwork, load_network, typed_onnx, without_quantizers
from runtimes.tensorrt.operators import LAYERS
from runtimes.tensorrt.reader import NetworkReader
from tests.stages import STAGES
from validation.gates.constants import audit
from validation.gates.execution import LARGEST_OFF, LARGEST_ROUNDING
from validation.inputs.synthetic import synthetic
from validation.int8.layerwise import compare_layers
from validation.int8.ranges import calibration_digests
from validation.metrics import relative_error
from validation.reference.emulation import evaluate
from validation.reference.floors import ordinary
from validation.reference.model import ReferenceModel

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

pytestmark = pytest.mark.published_m0

SIZE = 64
FORMS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Made:
    """Everything that the real stages make of one seeded model: stage -> artifact, for each precision."""

    reference: ReferenceModel
    stages: dict[str, dict[str, Artifact]]

    def network(self, form: str) -> Artifact:
        return self.stages[form]["parse"]

    def typed(self, form: str) -> Artifact:
        """The ONNX file that was parsed."""
        *_, typed, _ = self.stages[form].values()
        return typed

    @property
    def images(self) -> NDArray[np.float32]:
        """Ordinary ones on which the model is well conditioned."""
        kinds = ordinary(self.reference.at(self.network("fp32").precision).classifier.floors)
        rows = [self.reference.at(self.network("fp32").precision).rows(kind) for kind in kinds]
        images: NDArray[np.float32] = self.reference.golden.images[np.concatenate(rows)]
        return images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    weights = find_weights("seeded", "m0", square(SIZE))
    reference = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=square(SIZE))))
    shop = Workshop(weights, reference, tmp_path_factory.mktemp("networks"))
    stages: dict[str, dict[str, Artifact]] = {}
    for form in FORMS:
        images = "golden" if form == "int8" else None
        job = Job("m0", TARGETS["tensorrt"], form, 1, 18, TensorRtOptions(), calibrate=images)
        source: Artifact | None = None
        own = stages[form] = dict[str, Artifact]()
        for stage, wanted in job.plan[:-1]:
            name = stage.name
            known = stages["fp32"].get(name) if name in SHARED else None
            with contextlib.redirect_stdout(io.StringIO()):  # converters talk
                source = own[name] = known or STAGES[name](shop, job, wanted, source)
    return Made(reference, stages)


def _logits(artifact: Artifact, images: NDArray[np.float32], mode: Mode = Mode.SHIPPED) -> NDArray[np.float64]:
    """One by one: of a network by the evaluator, of an ONNX file by ONNX Runtime with its optimizations off."""
    runtime = TrtNetwork() if artifact.format == Format.NETWORK else OnnxRuntime(optimized=False)
    with runtime.open(artifact, mode) as session:
        return np.concatenate([session(image[None])["logits"] for image in images]).astype(np.float64)


@pytest.mark.parametrize("form", FORMS)
def test_every_constant_is_the_deploy_forms_bit_for_bit(form: str, made: Made) -> None:
    artifact = made.network(form)
    reference = made.reference.at(artifact.precision)
    if artifact.precision.quantized:
        reference = reference.with_constants(calibration_digests(made.typed(form)))
    found = audit(read_constants(artifact), reference.constants)
    assert not found.mismatches, str(found)
    assert found.compared == audit(read_constants(made.typed(form)), reference.constants).compared > 250


@pytest.mark.parametrize("form", FORMS)
def test_the_structure_is_pytorchs_with_the_same_rounded_weights(form: str, made: Made) -> None:
    artifact = made.network(form)
    deploy = made.reference.stored(artifact.precision)
    exact = evaluate(copy.deepcopy(deploy).double(), torch.tensor(made.images).double()).numpy()
    assert relative_error(_logits(artifact, made.images, Mode.ORACLE), exact).max() <= 1e-5


def test_fp16_costs_what_fp16_may_cost(made: Made) -> None:
    """And it does cost something: every result is rounded."""
    artifact = made.network("fp16")
    reference = made.reference.at(artifact.precision)
    for kind in ordinary(reference.classifier.floors):
        rows = reference.rows(kind)
        error = relative_error(_logits(artifact, reference.golden.images[rows]), reference.logits[rows])
        assert error.max() <= reference.classifier.precision_budget(kind)
        assert error.min() > 1e-4


def test_int8_layers_do_what_onnx_runtime_does(made: Made) -> None:
    deviations = compare_layers(made.network("int8"), made.images[:4]).layers
    integers = [layer for layer in deviations if layer.integer]
    floats = [layer for layer in deviations if not layer.integer]
    assert len(integers) > 100
    assert len(floats) > 300
    assert max(layer.off for layer in integers) <= LARGEST_OFF
    assert max(layer.worst for layer in floats) <= LARGEST_ROUNDING


@pytest.mark.parametrize(("form", "mode"), [("fp32", Mode.SHIPPED), *((form, Mode.ORACLE) for form in FORMS)])
def test_it_agrees_with_onnx_runtime_in_float32(form: str, mode: Mode, made: Made) -> None:
    """Optimizations off: what the file says, by two readers of it."""
    network, typed = (_logits(artifact, made.images, mode) for artifact in (made.network(form), made.typed(form)))
    assert relative_error(network, typed).max() <= 1e-5


def test_it_agrees_with_onnx_runtime_on_the_quantized_file(made: Made) -> None:
    """End to end a rounding tie may tip over, and the next layers carry it on as far as int8 itself is off.

    Rounding by rounding they are compared by the teacher, above.
    """
    network, typed = (_logits(artifact, made.images) for artifact in (made.network("int8"), made.typed("int8")))
    error = relative_error(network, typed)
    assert np.median(error) <= 1e-3
    assert error.min() <= 1e-5
    assert error.max() <= 0.5


def test_what_is_declared_is_what_was_asked_for(made: Made) -> None:
    def dtypes(form: str) -> Counter[str]:
        return Counter(kind.dtype for kind in load_network(made.network(form)).types().values())

    assert set(dtypes("fp32")) == {"fp32"}
    assert dtypes("fp16")["fp32"] == 2  # the image and the logits
    assert set(dtypes("fp16")) == {"fp16", "fp32"}
    assert set(dtypes("int8")) == {"int8", "fp32"}
    assert dtypes("int8")["int8"] > 100


@pytest.mark.parametrize("form", FORMS)
def test_the_ports_are_the_ones_promised(form: str, made: Made) -> None:
    artifact = made.network(form)
    assert read_ports(artifact) == intended_ports(artifact.model, artifact.batch)


def test_operators_are_counted(made: Made) -> None:
    counts = {form: count_operators(made.network(form)) for form in FORMS}
    assert counts["fp16"] == (counts["fp32"] or 0) + 2  # a cast at either end
    assert counts["int8"] == len(load_network(made.network("int8")).operations)
    assert not any(unexpected_operators(made.network(form)) for form in FORMS)


def test_the_evaluator_says_how_it_computes(made: Made) -> None:
    runtime = TrtNetwork()
    assert (runtime.name, runtime.evidence) == ("trt-network", Evidence.REFERENCE)
    assert runtime.shipped_settings(made.network("fp16")) == {}
    for form, precision in (("fp16", Dtype.FP16), ("int8", Dtype.INT8)):
        for mode, arithmetic in ((Mode.SHIPPED, "declared"), (Mode.ORACLE, "float32")):
            with runtime.open(made.network(form), mode, threads=2) as session:
                attestation = session.attestation
            assert attestation.precision is (Dtype.FP32 if mode is Mode.ORACLE else precision)
            assert (attestation.runtime, attestation.threads) == ("trt-network", 2)
            assert attestation.settings["arithmetic"] == arithmetic
            assert attestation.settings["product"] == api.product().name
            assert torch.get_num_threads() == 1  # as before


def test_magnitudes_are_watched_in_float32_alone(made: Made) -> None:
    artifact, image = made.network("fp16"), made.images[:1]
    first = "image_cast_to_stem.conv1/Conv"
    with TrtNetwork().open(artifact, Mode.ORACLE) as session:
        session(image)
        one = dict(session.peaks)
        session(image / np.float32(2))
        assert set(session.peaks) == set(one)
        assert session.peaks[first] == pytest.approx(np.abs(image).max() / 2)
    assert one[first] == pytest.approx(np.abs(image).max())
    with TrtNetwork().open(artifact) as session:
        session(image)
        assert not session.peaks


def test_images_that_do_not_fit_are_refused(made: Made) -> None:
    with TrtNetwork().open(made.network("fp32")) as session, pytest.raises(BadInput, match="don't fit"):
        session(made.images[:2])
    with TrtNetwork().open(made.network("fp32")) as session, pytest.raises(BadInput, match="don't fit"):
        session(made.images[:1, :, 1:])


def test_without_its_quantizers_a_network_keeps_its_weights(made: Made) -> None:
    program = load_network(made.network("int8"))
    bare = without_quantizers(program)
    assert bare.outputs == program.outputs
    assert not any(operation.kind == "quantize" for operation in bare.operations)
    left = [operation for operation in bare.operations if operation.kind == "dequantize"]
    assert left
    assert all(operation.inputs["x"] in bare.constants for operation in left)
    assert len(left) == sum(
        constant.type.dtype == "int8" and constant.type.shape != () for constant in _weights(program)
    )


def _weights(program: Any) -> list[Any]:
    zeros = {operation.inputs.get("zero") for operation in program.operations}
    return [constant for name, constant in program.constants.items() if name not in zeros]


def test_an_engine_is_judged_by_the_file_beside_it(made: Made) -> None:
    network = made.network("fp32")
    assert typed_onnx(network) == network.path
    engine = network.path.with_suffix(".engine")
    engine.write_bytes(b"")
    try:
        assert typed_onnx(Artifact.on_disk(engine, Format.ENGINE, network.model, made_by="build")) == network.path
    finally:
        engine.unlink()


def test_without_either_product_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrtNetwork().unavailable() is None
    for module in (api, packages):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    reason = TrtNetwork().unavailable()
    assert reason is not None
    assert "[tensorrt]" in reason


@pytest.mark.parametrize("name", ["mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_b0", "mobilevit_xxs"])
def test_other_peoples_models_are_evaluated_as_pytorch_does(name: str, tmp_path: Path) -> None:
    """Layers that EfficientViT has not: LayerNorm, SiLU and hard swish, squeeze-excite, attention over patches."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    path = tmp_path / "model.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, (images,), path, dynamo=True, opset_version=18, external_data=False, verbose=False)
    program = load_network(Artifact.on_disk(path, Format.NETWORK, model_spec("m0"), made_by="test", batch=2))
    (given,), (output,) = program.inputs, program.outputs
    found = Evaluator(program, Arithmetic.FLOAT32, language=LAYERS)({given: images})[output]
    with torch.no_grad():
        wanted = model(images)
    assert relative_error(found.double().numpy(), wanted.double().numpy()).max() <= 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_the_reader_gives_the_network_and_its_language(form: str, made: Made) -> None:
    program, language = NetworkReader().program(made.network(form))
    assert language is LAYERS
    assert program.outputs == load_network(made.network(form)).outputs
