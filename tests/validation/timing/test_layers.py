"""Where the time goes: every operator that ran counts for one module, and the sum is a run's time."""

from pathlib import Path

import numpy as np
import pytest

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.targets.onnx.opsets import DEFAULT_OPSET
from export.targets.onnx.trace import capture, trace
from export.targets.openvino.convert import to_openvino
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision
from runtimes.registry import native_runtime
from runtimes.runtime import Mode
from validation.timing.layers import by_module, time_by_module

SIZE = 64
IMAGES = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


def test_what_bears_no_name_counts_for_the_next_that_does() -> None:
    executed = [
        ("Resize", "", 5),
        ("ReorderInput", "", 1),
        ("conv_nchwc", "conv", 10),
        ("stage1.block1.ffn1.branch.expand/Conv", "", 20),
        ("ReorderOutput_token_3", "", 2),
        ("stage1.block1.mixer.branch/MatMul_3", "", 30),
        ("stage1.block1.mixer.branch.q.0/Conv/WithoutBiases", "", 4),
        ("stage2.downsample.merge.gate.expand/Conv", "", 7),
        ("logits", "", 8),
        ("Softmax", "", 3),
    ]
    assert by_module(executed, {"conv": "stem.conv1/Conv"}) == [
        ("stem", 16, 3),
        ("stage1.block1.ffn1", 20, 1),
        ("stage1.block1.mixer", 36, 3),
        ("stage2.downsample.merge", 7, 1),
        ("head", 11, 2),
    ]
    assert by_module([("Resize", "", 5)], {}) == [("preprocessing", 5, 1)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Artifact]:
    folder, spec = tmp_path_factory.mktemp("layers"), model_spec("m0", square(SIZE))
    deploy = to_deploy(seeded(spec))
    traced = trace(capture(deploy, 1), deploy, folder / "m0.onnx", batch=1, opset=DEFAULT_OPSET)
    return {Format.ONNX: traced, Format.OPENVINO: to_openvino(traced, folder / "m0.xml", Precision())}


@pytest.mark.parametrize("form", [Format.ONNX, Format.OPENVINO])
def test_every_module_is_there_and_all_of_a_run(form: Format, made: dict[Format, Artifact]) -> None:
    artifact = made[form]
    before = _fastest(artifact)
    found = time_by_module(artifact, IMAGES)
    fastest = min(before, _fastest(artifact))  # another process may have had the core during one of them
    names = [each.name for each in found]
    assert names[0] == "stem"
    assert names[-1] == "head"
    blocks = {f"stage{s}.block{b}" for s, depth in enumerate(artifact.model.depths, 1) for b in range(1, depth + 1)}
    assert blocks == {".".join(name.split(".")[:2]) for name in names if ".block" in name}
    assert {name.rpartition(".")[2] for name in names if ".block1." in name} == {
        "depthwise1", "ffn1", "mixer", "depthwise2", "ffn2",
    }  # fmt: skip
    assert sum(each.ns for each in found) > 0.5 * fastest
    if form is Format.OPENVINO:  # which counts whole microseconds, and some modules take less
        assert all(each.ns for each in found)


def _fastest(artifact: Artifact) -> int:
    """Nanoseconds of the shortest run of a session, the first of which are up to twice as slow."""
    with native_runtime(artifact.format).open(artifact, Mode.SHIPPED) as session:
        return min(session.timed_ns(IMAGES) for _ in range(500))


def test_another_runtime_has_none(made: dict[Format, Artifact], tmp_path: Path) -> None:
    path = made[Format.ONNX].copied_to(tmp_path)
    assert time_by_module(Artifact.on_disk(path, Format.COREML, made[Format.ONNX].model, made_by="x"), IMAGES) == ()
