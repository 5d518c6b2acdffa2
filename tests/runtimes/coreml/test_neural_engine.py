"""Readiness for the Neural Engine: the family's packages are fit, and what isn't is named."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813 - what coremltools' own documentation calls it
from torch.utils.flop_counter import FlopCounterMode

from efficientvit.deploy.modules import StaticAttention
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.targets.coreml.convert import capture_for_coreml, to_coreml
from runtimes.artifact import Artifact, Format, Interface
from runtimes.coreml.mlpackage import load_program
from runtimes.coreml.neural_engine import readiness
from runtimes.evaluator.program import Program
from runtimes.precision import Dtype


@dataclass(frozen=True)
class Converted:
    deploy: EfficientViT
    artifact: Artifact
    program: Program


@pytest.fixture(scope="module", params=["m0", "m5"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A member of the family, of one block a stage, at its own size: smaller ones have no windows to partition."""
    deploy = to_deploy(seeded(replace(model_spec(request.param), depths=(1, 1, 1))))
    artifact = to_coreml(
        capture_for_coreml(deploy, 1, labeled=False),
        deploy.spec,
        tmp_path_factory.mktemp(request.param) / "efficientvit.mlpackage",
        batch=1,
        activations=Dtype.FP16,
        interface=Interface(image_input=True),
        preprocessing=Preprocessing(),
        ios=15,
        made_by="test",
    )
    return Converted(deploy, artifact, load_program(artifact.path))


def test_all_of_the_work_is_fit(converted: Converted) -> None:
    ready = readiness(converted.artifact)
    assert (ready.share, ready.violations) == (1.0, ())


def test_its_work_is_what_pytorch_counts(converted: Converted) -> None:
    """PyTorch's own counter, on the deploy form: it pools before the last convolution, as the package does."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        converted.deploy(torch.zeros(1, 3, 224, 224))
    assert 2 * readiness(converted.artifact).macs == counter.get_total_flops()


def test_no_tensor_has_more_than_four_dimensions_and_nothing_is_transposed(converted: Converted) -> None:
    program = converted.program
    assert max(len(declared.shape) for declared in program.types().values()) == 4
    assert [operation.name for operation in program.operations if operation.kind == "transpose"] == []


def test_each_head_lets_the_product_read_its_keys_transposed(converted: Converted) -> None:
    """In place of a transpose of its own: a flag of the matrix product, once a head."""
    program = converted.program
    flags = [operation.inputs.get("transpose_x") for operation in program.operations if operation.kind == "matmul"]
    set_flags = [flag for flag in flags if isinstance(flag, str) and program.constants[flag].value]
    heads = sum(module.heads for module in converted.deploy.modules() if isinstance(module, StaticAttention))
    assert (len(set_flags), len(flags)) == (heads, 2 * heads)


# Planted violations, in programs of a few operations.

Build = Callable[[Any], Any]


def _weight(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _package(build: Build, shape: tuple[int, ...], path: Path, *, half: bool = True) -> Artifact:
    """The program `x -> build(x)` as coremltools saves it."""

    @mb.program(  # type: ignore[untyped-decorator]
        input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS15
    )
    def program(x: Any) -> Any:
        return build(x)

    ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS15,
        skip_model_load=True,
    ).save(str(path))
    return Artifact.on_disk(path, Format.COREML, model_spec("m0"), made_by="test")


def fit(x: Any) -> Any:
    """A convolution with nothing against it: 8 x 8 x 4 outputs of 3 x 3 x 2 products."""
    return mb.conv(x=x, weight=_weight(4, 2, 3, 3), pad_type="same", name="fit")


def rank_five(x: Any) -> Any:
    """At the limit; rank 6 is tried in tests/runtimes/test_neural_engine.py."""
    y = mb.reshape(x=fit(x), shape=(1, 4, 2, 4, 8), name="unfolded")
    return mb.reshape(x=mb.relu(x=y, name="five"), shape=(1, 4, 8, 8), name="folded")


def odd_stride(x: Any) -> Any:
    return mb.conv(x=fit(x), weight=_weight(2, 4, 1, 1), strides=(5, 5), pad_type="valid", name="odd")


def unknown_kind(x: Any) -> Any:
    return mb.erf(x=fit(x), name="odd")


def wide_kernel(x: Any) -> Any:
    return mb.conv(x=fit(x), weight=_weight(2, 4, 15, 15), pad_type="same", name="wide")


def long_dimension(x: Any) -> Any:
    return mb.relu(x=mb.tile(x=mb.reshape(x=fit(x), shape=(1, 256)), reps=(1, 80), name="tiled"), name="long")


FIT_MACS = 8 * 8 * 4 * 3 * 3 * 2
WIDE_MACS = 8 * 8 * 2 * 15 * 15 * 4
ODD_MACS = 2 * 2 * 2 * 4


@pytest.mark.parametrize(
    ("build", "half", "share", "named"),
    [
        (fit, True, 1.0, []),
        (rank_five, True, 1.0, []),
        (odd_stride, True, FIT_MACS / (FIT_MACS + ODD_MACS), ["conv 'odd", "a stride of 5"]),
        (unknown_kind, True, 1.0, ["erf 'odd", "no kind that it is known to run"]),
        (wide_kernel, True, FIT_MACS / (FIT_MACS + WIDE_MACS), ["conv 'wide", "a kernel of 15, at most 13"]),
        (long_dimension, True, 1.0, ["relu 'long", "a dimension of 20480, at most 16384"]),
        (fit, False, 0.0, ["conv 'fit", "fp32, where it computes in fp16"]),
    ],
    ids=["fit", "rank 5", "stride of 5", "unknown kind", "kernel of 15", "dimension of 20480", "fp32"],
)
def test_what_is_not_fit_is_named_and_its_work_not_counted(
    build: Build, half: bool, share: float, named: list[str], tmp_path: Path
) -> None:
    ready = readiness(_package(build, (1, 2, 8, 8), tmp_path / "small.mlpackage", half=half))
    assert ready.macs == FIT_MACS + (WIDE_MACS if build is wide_kernel else ODD_MACS if build is odd_stride else 0)
    assert ready.share == pytest.approx(share)
    for text in named:
        assert any(text in violation for violation in ready.violations), ready.violations
    assert bool(ready.violations) == bool(named)
