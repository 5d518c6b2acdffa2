"""Files of opsets that the exporter does not write compute the same, and what cannot be expressed is refused."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.errors import BadOption, StageFailed
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.request.request import Request
from export.targets.onnx import trace
from export.targets.onnx.lowering import lowered
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Precision
from validation.inputs.synthetic import synthetic
from validation.judge import judge
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.verdict import VerifiedArtifact

pytestmark = pytest.mark.tiny_m0


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Grids that are padded: with Pad, and two halves of each."""
    golden = synthetic(Preprocessing(image_size=square(128))).one_of_each_kind()
    return ReferenceModel(seeded(model_spec("m0", square(128))), golden).at(Precision())


@pytest.mark.parametrize(("opset", "ir"), [(17, 8), (11, 6)])
def test_every_gate_passes_it(opset: int, ir: int, reference: Reference, tmp_path: Path) -> None:
    """The softmax of this form is over the first of two axes, which opset 11 cannot say."""
    deploy = to_deploy(seeded(model_spec("m0", square(128))))
    out = tmp_path / "model.onnx"
    artifact = trace.trace(trace.capture(deploy, None), deploy, out, batch=None, opset=opset)
    model = onnx.load(out)
    assert ([each.version for each in model.opset_import], model.ir_version) == ([opset], ir)
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert isinstance(judge(artifact, reference, OnnxRuntime()), VerifiedArtifact)


def _model(node: onnx.NodeProto, *constants: tuple[str, list[int]], parts: int = 1) -> onnx.ModelProto:
    """(n, 7) in, with one node."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 7])
    results = [helper.make_empty_tensor_value_info(name) for name in node.output[:parts]]
    held = [helper.make_tensor(name, TensorProto.INT64, [len(v)], v) for name, v in constants]
    graph = helper.make_graph([node], "g", [image], results, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (helper.make_node("Split", ["x"], ["a", "b"], "it", axis=1, num_outputs=2), []),
        (helper.make_node("Reshape", ["x", "s"], ["a"], "it", allowzero=1), [("s", [0, 7])]),
        (helper.make_node("Pad", ["x", "p", "", "axis"], ["a"], "it"), [("p", [1, 1]), ("axis", [1])]),
        (helper.make_node("ReduceMean", ["x"], ["a"], "it", noop_with_empty_axes=1), []),
        (helper.make_node("CenterCropPad", ["x", "s"], ["a"], "it"), [("s", [2, 2])]),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_what_an_older_opset_cannot_say_is_refused(
    node: onnx.NodeProto, constants: list[tuple[str, list[int]]]
) -> None:
    with pytest.raises(StageFailed, match=f"{node.op_type} 'it' cannot be written in opset 11"):
        lowered(_model(node, *constants, parts=len(node.output)), 11)


def test_sizes_and_axes_become_attributes_where_they_were() -> None:
    split = helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1)
    model = _model(split, ("sizes", [3, 4]), parts=2)
    lowered(model, 13)
    assert list(model.graph.node[0].input) == ["x", "sizes"]
    lowered(model, 11)
    (node,) = model.graph.node
    assert list(node.input) == ["x"]
    assert {each.name: helper.get_attribute_value(each) for each in node.attribute} == {"axis": 1, "split": [3, 4]}
    assert not model.graph.initializer
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["a"], keepdims=0)
    model = _model(mean, ("axes", [1]))
    lowered(model, 17)
    assert helper.get_attribute_value(model.graph.node[0].attribute[-1]) == [1]
    assert not [numpy_helper.to_array(each) for each in model.graph.initializer]


def test_int8_needs_scales_of_channels() -> None:
    with pytest.raises(BadOption, match="opset 12 cannot be written in int8") as told:
        Request(("m0",), ("onnx",), "int8", calibrate="golden", opset=12).jobs()
    assert told.value.expected == "13 to 23"
    assert Request(("m0",), ("onnx",), "int8", calibrate="golden", opset=13).jobs()
