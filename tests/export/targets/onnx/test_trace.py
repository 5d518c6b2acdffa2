"""The graph at the size that people deploy: how many nodes it takes, and what must not be among them."""

from pathlib import Path

import onnx
import pytest

from efficientvit.deploy.rewrites import to_deploy, tokens_before_channels
from efficientvit.errors import BadOption, StageFailed
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import find_weights
from export.request.request import Request
from export.targets.onnx import trace
from export.targets.onnx.opsets import DEFAULT_OPSET
from export.targets.workshop import Workshop
from runtimes.precision import Precision
from tests.stages import STAGES
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel

SHAPE_ARITHMETIC = {"Shape", "Gather", "Unsqueeze", "Squeeze", "Slice", "ConstantOfShape", "Range", "Constant"}


@pytest.mark.parametrize(("name", "most", "batch"), [("m0", 500, 1), ("m2", 380, None)])
def test_nodes_at_224(name: str, most: int, batch: int | None, tmp_path: Path) -> None:
    deploy = to_deploy(seeded(model_spec(name)))
    out = tmp_path / f"{name}.onnx"
    artifact = trace.trace(trace.capture(deploy, batch), deploy, out, batch=batch, opset=DEFAULT_OPSET)
    model = onnx.load(artifact.path)
    kinds = {node.op_type for node in model.graph.node}
    assert len(model.graph.node) <= most
    assert not kinds & SHAPE_ARITHMETIC
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    modules = {name for name, _ in deploy.named_modules()}
    assert {name.split("/")[0] for name in names} <= modules | {"model"}
    sizes = [value.type.tensor_type.shape.dim[0] for value in (model.graph.input[0], model.graph.output[0])]
    assert [size.dim_param or size.dim_value for size in sizes] == [batch or "batch"] * 2


def test_a_kept_file_with_other_weights_is_a_trace_of_theirs(tmp_path: Path) -> None:
    """What `tests.traced_once` stands on, which is in place here."""
    (job,) = Request(("m0",), ("onnx",), weights="seeded", image_size=square(64)).jobs()

    def shop(seed: int) -> Workshop:
        weights = find_weights(f"seeded:{seed}", "m0", square(64))
        reference = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=square(64))))
        return Workshop(weights, reference, tmp_path / str(seed))

    STAGES["trace"](shop(0), job, Precision(), None)
    other = shop(1)
    kept = STAGES["trace"](other, job, Precision(), None)
    deploy, own = tokens_before_channels(other.deploy), tmp_path / "own.onnx"
    trace.trace(trace.capture(deploy, 1), deploy, own, batch=1, opset=DEFAULT_OPSET)
    assert kept.path.read_bytes() == own.read_bytes()


def test_a_batch_that_was_baked_in_is_noticed() -> None:
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [2, 3, 64, 64])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 10])
    graph = onnx.helper.make_graph([], "g", [image], [logits])
    with pytest.raises(StageFailed, match="'image' another batch"):
        trace._require_batch(onnx.helper.make_model(graph), None)


@pytest.mark.parametrize("opset", [0, 10, 24])
def test_an_opset_that_is_not_written(opset: int, tmp_path: Path) -> None:
    deploy = to_deploy(seeded(model_spec("m0", square(64))))
    with pytest.raises(BadOption, match=f"opset {opset}"):
        trace.trace(None, deploy, tmp_path / "x.onnx", batch=1, opset=opset)  # type: ignore[arg-type]
    assert not (tmp_path / "x.onnx").exists()
