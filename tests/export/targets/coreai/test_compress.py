"""Large weights in fewer bits: what decodes is what the rule leaves, in Apple's runtime as well as in the reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.deploy.compression import int8, palettized
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format, Interface
from runtimes.coreai.aimodel import load_program
from runtimes.coreai.operators import CORE_AI
from runtimes.coreai.process import Child
from runtimes.coreai.reader import CoreAiReader
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.precision import PALETTE_BITS, Dtype, Precision
from tests.coreai_assets import needs_coreai
from tests.export.targets.coreai.test_coreai import Network, save_network

pytestmark = needs_coreai

FP16 = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("assets") / "network.aimodel"
    save_network(path)
    return Artifact.on_disk(path, Format.COREAI, model_spec("m0", square(64), 5), made_by="coreai", precision=FP16)


@pytest.mark.parametrize(
    ("weights", "stored"),
    [
        (Dtype.INT8, "blockwise_shift_scale"),
        (Dtype.PALETTE8, "lut_to_dense"),
        (Dtype.PALETTE6, "lut_to_dense"),
        (Dtype.PALETTE4, "lut_to_dense"),
    ],
)
def test_what_is_left_of_a_weight(source: Artifact, weights: Dtype, stored: str, tmp_path: Path) -> None:
    from export.targets.coreai.compress import compress

    network: Any = Network()
    made = compress(source, network, tmp_path / "small.aimodel", weights, Interface())
    held = load_program(made.path).constants
    weight = network.conv.weight.detach().numpy().astype(np.float16)
    left = int8(weight) if weights is Dtype.INT8 else palettized(weight, PALETTE_BITS[weights])
    found = held["conv_weight"]
    assert isinstance(found.value, np.ndarray)
    assert np.array_equal(found.value, left)
    assert (found.stored, held["linear_weight"].stored) == (stored, "const")
    assert made.size_bytes < source.size_bytes
    assert not CoreAiReader().unexpected_operators(made)

    images = np.random.Generator(np.random.PCG64(0)).standard_normal((1, 3, 8, 8), dtype=np.float32)
    with Child("run", made.path) as child:
        child.message()
        theirs = child.ask("image", images)["logits"]
    ours = Evaluator(load_program(made.path), Arithmetic.FLOAT64, CORE_AI)({"image": images})["logits"].numpy()
    assert np.allclose(theirs, ours, atol=3e-3)


def test_it_is_the_same_asset_each_time(source: Artifact, tmp_path: Path) -> None:
    from export.targets.coreai.compress import compress

    network: Any = Network()
    one, other = (compress(source, network, tmp_path / f"{n}.aimodel", Dtype.PALETTE6, Interface()) for n in "ab")
    assert one.sha256 == other.sha256
