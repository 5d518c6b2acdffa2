"""Real packages, operation by operation: every value that the evaluator computes, from the same inputs by another way.

coremltools' loader reads the file, its `value_inference` computes; a convolution and `silu`, for which it has none, are
computed in NumPy. By default EfficientViT M0 at 64 pixels and four models of others;

    MIL_ORACLE=full python -m pytest tests/runtimes/test_mil_oracle.py --log-cli-level=INFO

takes M0 to M5 as they ship, at 224 pixels, instead of the small M0, and shows the figures.
"""

import functools
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import nn

from efficientvit.deploy.image_input import divided_by_std
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.seeded import seeded
from export.targets.coreml.convert import capture_for_coreml, to_coreml
from export.targets.coreml.package import without_classifier
from runtimes.artifact import Artifact, Interface
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.coreml.kinds import KINDS
from runtimes.coreml.mlpackage import load_program
from runtimes.coreml.operators import MIL
from runtimes.coreml.reader import CoreMlReader
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import Program
from runtimes.precision import Dtype
from runtimes.runtime import Mode
from validation.metrics import relative_error

Array = NDArray[Any]

LOG = logging.getLogger(__name__)

pytestmark = pytest.mark.published_m0

FULL = os.environ.get("MIL_ORACLE") == "full"
SIZES = dict.fromkeys(MODELS, 224) if FULL else {"m0": 64}
TOLERANCE, DOUBLE = 1e-6, 1e-12
"""Of the greatest magnitude of a tensor, in float32 and where float64 can be compared."""

PARITY = 1e-5
"""The relative error of a whole model's logits."""


@pytest.fixture(scope="module", params=SIZES)
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Dtype, Artifact]:
    """A model as it ships, 8-bit image in, logits and labels out, in float16 and in float32."""
    spec = model_spec(request.param, square(SIZES[request.param]), None if FULL else 10)
    preprocessing = Preprocessing(image_size=spec.image_size)
    deploy = divided_by_std(to_deploy(seeded(spec)), preprocessing.std).float()
    program = capture_for_coreml(deploy, 1, labeled=True)
    interface = Interface(image_input=True, labels=tuple(f"class {i}" for i in range(spec.classes)))
    folder = tmp_path_factory.mktemp("packages")
    return {
        dtype: to_coreml(
            program,
            spec,
            folder / f"{dtype}.mlpackage",
            batch=1,
            activations=dtype,
            interface=interface,
            preprocessing=preprocessing,
            ios=15,
            made_by="test",
        )
        for dtype in (Dtype.FP16, Dtype.FP32)
    }


def _pixels(program: Program) -> Array:
    """(1, 3, S, S): whole numbers of 0..255, as floats."""
    (kind,) = program.inputs.values()
    return np.random.default_rng(0).integers(0, 256, kind.shape).astype(np.float32)


@dataclass
class Comparison:
    """Outputs compared and the worst distance, by kind of operation."""

    counts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, mine: Array, theirs: Array) -> None:
        assert mine.shape == theirs.shape
        distance = np.abs(mine.astype(np.float64) - theirs).max() / (np.abs(theirs).max() or 1)
        assert np.isfinite(distance)
        self.counts[kind] += 1
        self.worst[kind] = max(self.worst.get(kind, 0.0), float(distance))


def _convolution(x: Array, weight: Array, bias: Array | None = None, **options: Any) -> Array:
    """In float64, by a matrix product over windows."""
    pad = {"valid": (0, 0, 0, 0), "custom": tuple(options["pad"])}[options["pad_type"]]
    assert tuple(options["dilations"]) == (1, 1)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), pad[:2], pad[2:]))
    (out, per_group, height, width), groups = weight.shape, int(options["groups"])
    down, across = options["strides"]
    windows = sliding_window_view(padded, (1, 1, height, width))[:, :, ::down, ::across, 0, 0]
    n, _, rows, columns = windows.shape[:4]
    windows = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, groups, per_group * height * width, rows * columns)
    product: Array = weight.astype(np.float64).reshape(groups, out // groups, -1) @ windows
    product = product.reshape(n, out, rows, columns)
    return product if bias is None else product + bias.reshape(1, -1, 1, 1)


def _silu(x: Array) -> Array:
    wide: Array = x.astype(np.float64)
    result: Array = wide / (1 + np.exp(-wide))
    return result


OTHERWISE: Mapping[str, Callable[..., Array]] = {"conv": _convolution, "silu": _silu}
"""Kinds without a `value_inference`."""


def compared(package: Path, feeds: Mapping[str, Array], read: Any, infer: Any) -> Comparison:
    """Every operation of the package, given what the evaluator computed up to it.

    coremltools computes in float32, and so does the evaluator for that comparison; what NumPy computes here is
    compared in float64, where the order of a convolution's thousand products does not show.
    """
    program = load_program(package)
    names = names_of(program)
    single, double = (
        {
            **Evaluator(program, arithmetic, MIL, names)(feeds),
            **{name: torch.from_numpy(x) for name, x in feeds.items()},
        }
        for arithmetic in (Arithmetic.FLOAT32, Arithmetic.FLOAT64)
    )
    result = Comparison()
    for operation in read(package).operations:
        kind = operation.op_type
        if kind == "const":
            continue
        values = double if kind in OTHERWISE else single
        inputs = {key: _given(var, values) for key, var in operation.inputs.items()}
        if kind == "cast":
            _compare_cast(result, program, operation, inputs["x"], infer)
            continue
        if kind in OTHERWISE:
            theirs = [OTHERWISE[kind](**inputs)]
        else:
            theirs = infer(kind, 18 if kind == "scaled_dot_product_attention" else 15, **inputs)
        for output, value in zip(operation.outputs, theirs, strict=True):
            assert value is not None, f"coremltools infers no value of {kind} '{output.name}'"
            result.add(kind, values[output.name].numpy(), np.asarray(value))
    assert sum(result.counts.values()) == len(names)
    return result


def _given(var: Any, values: Mapping[str, torch.Tensor]) -> Any:
    """An input of an operation: computed before, or a constant."""
    if isinstance(var, list | tuple):
        return [_given(member, values) for member in var]
    if var.name in values:
        return values[var.name].numpy()
    constant = var.val
    # In float32 arithmetic a constant of float16 is float32 too; NumPy takes no flag of its own type.
    if isinstance(constant, np.ndarray | np.generic) and constant.dtype == np.float16:
        return constant.astype(np.float32)
    return bool(constant) if isinstance(constant, np.bool_) else constant


def names_of(program: Program) -> tuple[str, ...]:
    """Every tensor that is computed."""
    return tuple(name for operation in program.operations for name, kind in operation.outputs if kind is not None)


def _compare_cast(result: Comparison, program: Program, operation: Any, x: Array, infer: Any) -> None:
    """Rounded to what is declared: in float32 arithmetic a cast does nothing."""
    source, target = operation.x.name, operation.outputs[0].name
    if program.types()[source].dtype == "fp16":
        x = x.astype(np.float16)
    (theirs,) = infer("cast", 15, x=x, dtype=operation.dtype.val)
    mine = Evaluator(program, Arithmetic.DECLARED, MIL, (target,))({source: torch.from_numpy(x)})[target].numpy()
    assert np.array_equal(mine, theirs.astype(np.float32))
    result.add("cast", mine, theirs)


def accept(what: str, comparison: Comparison) -> None:
    """Every kind within its tolerance."""
    for kind, count in sorted(comparison.counts.items()):
        LOG.info("%s: %s, %d compared, worst %.1e", what, kind, count, comparison.worst[kind])
        assert comparison.worst[kind] <= (DOUBLE if kind in OTHERWISE else TOLERANCE), kind


@pytest.mark.parametrize("dtype", [Dtype.FP16, Dtype.FP32])
def test_every_operation_of_our_packages_is_what_coremltools_infers(
    dtype: Dtype,
    packages: dict[Dtype, Artifact],
    read_by_coremltools: Any,
    infer: Any,
    tmp_path: Path,
) -> None:
    package = Path(shutil.copytree(packages[dtype].path, tmp_path / "tensors.mlpackage"))
    without_classifier(package)  # which coremltools writes and cannot read
    program = load_program(package)
    comparison = compared(package, {"image": _pixels(program)}, read_by_coremltools, infer)
    accept(f"{packages[dtype].model.name} {dtype}", comparison)
    # A package may hold these, and none has a transpose; grids that windows fit, as here, are not padded nor cut.
    absent = {"classify", "transpose", "pad", "slice_by_index"} | ({"cast"} if dtype is Dtype.FP32 else set())
    assert set(comparison.counts) == KINDS - absent
    assert set(comparison.counts) & OTHERWISE.keys() == {"conv"}


def test_declared_arithmetic_leaves_nothing_that_float16_cannot_hold(packages: dict[Dtype, Artifact]) -> None:
    program = load_program(packages[Dtype.FP16].path)
    halves = tuple(name for name, kind in program.types().items() if kind.dtype == "fp16")
    assert len(halves) > 300
    finer: dict[Arithmetic, int] = {}
    for arithmetic in Arithmetic:
        values = Evaluator(program, arithmetic, MIL, halves)({"image": _pixels(program)}).values()
        finer[arithmetic] = sum(bool((value.half().to(value.dtype) != value).any()) for value in values)
    assert finer[Arithmetic.DECLARED] == 0
    # All but tensors of zeros and the pixels themselves.
    assert min(finer[Arithmetic.FLOAT32], finer[Arithmetic.FLOAT64]) > 0.9 * len(halves)


def test_in_float32_nothing_is_rounded(packages: dict[Dtype, Artifact]) -> None:
    program = load_program(packages[Dtype.FP32].path)
    feeds = {"image": _pixels(program)}
    declared, single = (Evaluator(program, a, MIL)(feeds)["logits"] for a in (Arithmetic.DECLARED, Arithmetic.FLOAT32))
    assert torch.equal(declared, single)


@pytest.mark.parametrize("dtype", [Dtype.FP16, Dtype.FP32])
def test_label_and_probabilities_are_the_softmax_of_the_logits(dtype: Dtype, packages: dict[Dtype, Artifact]) -> None:
    artifact = packages[dtype]
    pixels = np.random.default_rng(1).integers(0, 256, artifact.model.image_size.nhwc(1), np.uint8)
    with MilEvaluator().open(artifact, Mode.ORACLE) as session:
        logits = session(pixels)["logits"][0].astype(np.float64)
        label, probabilities = session.classify(pixels)
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert list(probabilities) == [f"class {i}" for i in range(len(shares))]
    assert list(probabilities.values()) == pytest.approx(shares.tolist(), rel=1e-5)
    assert label == f"class {logits.argmax()}"


@dataclass(frozen=True)
class Baseline:
    """A model of others: its side in pixels, the iOS it is converted for, and kinds that ours do not have."""

    model: str
    size: int
    ios: int
    kinds: frozenset[str]

    def __str__(self) -> str:
        return f"{self.model}-ios{self.ios}"


BASELINES = (
    Baseline("mobilenetv2_100", 64, 15, frozenset({"clip"})),
    Baseline("mobilenetv3_large_100", 64, 15, frozenset({"sigmoid_hard", "thresholded_relu"})),
    Baseline("efficientnet_b0", 64, 15, frozenset({"silu"})),
    Baseline("mobilevit_xxs", 64, 15, frozenset({"layer_norm", "silu", "squeeze", "transpose"})),
    Baseline(
        "mobilevit_xxs",
        64,
        18,
        frozenset({"layer_norm", "scaled_dot_product_attention", "silu", "squeeze", "transpose"}),
    ),
)


@torch.no_grad()
def _baseline(name: str, images: torch.Tensor) -> nn.Module:
    """Seeded, its normalizations calibrated on the images, or nothing of them would reach the logits.

    Not fully: behind normalizations that take all the scale out, float32 itself is no better than 1e-5.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, pretrained=False)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.8
                module.weight.uniform_(0.7, 1.3)
                module.bias.uniform_(-0.3, 0.3)
        model.train()(images)
    return model.eval()


@functools.cache
def _captured(name: str, size: int) -> tuple[Any, torch.Tensor, Array]:
    """A program for two images, the images, and their logits."""
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 3, size, size)).astype(np.float32))
    model = _baseline(name, images)
    images = images[:2]
    with torch.inference_mode():
        expected = model(images).double().numpy()
    if name.startswith("mobilevit"):  # whose sizes computed in Python coremltools cannot take from a trace
        return torch.export.export(model, (images,)).run_decompositions({}), images, expected
    return torch.jit.trace(model, images), images, expected


@pytest.mark.parametrize("baseline", BASELINES, ids=str)
def test_a_model_of_others_comes_out_as_in_torch(
    baseline: Baseline, save: Any, read_by_coremltools: Any, infer: Any
) -> None:
    import coremltools as ct

    program, images, expected = _captured(baseline.model, baseline.size)
    assert relative_error(expected[:1], expected[1:]) > 1000 * PARITY, "the logits hardly depend on the image"
    path = save(
        program,
        baseline.ios,
        inputs=[ct.TensorType("image", shape=images.shape, dtype=np.float32)],
        outputs=[ct.TensorType("logits", dtype=np.float32)],
    )
    logits = Evaluator(load_program(path), Arithmetic.FLOAT32, MIL)({"image": images})["logits"].numpy()
    errors = relative_error(logits, expected)
    LOG.info("%s: relative error %.1e", baseline, errors.max())
    assert errors.max() <= PARITY
    comparison = compared(path, {"image": images.numpy()}, read_by_coremltools, infer)
    accept(str(baseline), comparison)
    assert set(comparison.counts) - (KINDS - {"transpose"}) == baseline.kinds


def test_the_reader_gives_the_program_and_its_language(packages: dict[Dtype, Artifact]) -> None:
    program, language = CoreMlReader().program(packages[Dtype.FP32])
    assert language is MIL
    assert program.outputs == load_program(packages[Dtype.FP32].path).outputs
