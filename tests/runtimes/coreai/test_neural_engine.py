"""Work of an asset's operations, and what of it is fit for the Neural Engine."""

from pathlib import Path

from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.coreai.neural_engine import readiness
from tests.coreai_assets import needs_coreai, saved, tiny

pytestmark = needs_coreai


def _artifact(path: Path) -> Artifact:
    return Artifact.on_disk(path, Format.COREAI, model_spec("m0", square(64)), made_by="test")


def test_a_convolution_in_float32_is_not_fit(tmp_path: Path) -> None:
    found = readiness(_artifact(tiny(tmp_path / "tiny.aimodel")))
    assert (found.macs, found.share, found.padded) == (2 * 3 * 4 * 4, 0.0, 1.0)
    assert "fp32, where it computes in fp16" in found.violations[0]


def test_a_product_in_float16_is(tmp_path: Path) -> None:
    a, b, c = "tensor<1x2x8xf16>", "tensor<1x8x64xf16>", "tensor<1x2x64xf16>"
    asset = saved(
        f'coreai.graph @main(%x: {a} {{coreai.name = "image"}}) -> ({c} {{coreai.name = "logits"}}) {{\n'
        f"%b = coreai.constant dense<0.5> : {b}\n"
        f'%y = "coreai.decomposable.broadcasting_batch_matmul"(%x, %b) : ({a}, {b}) -> {c}\n'
        f"coreai.output %y : {c} }}",
        tmp_path / "product.aimodel",
    )
    found = readiness(_artifact(asset))
    assert (found.macs, found.share, found.violations, found.padded) == (2 * 64 * 8, 1.0, (), 0.0)
