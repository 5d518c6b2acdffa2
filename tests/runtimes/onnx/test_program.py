"""ONNX files read as programs: real exports against ONNX Runtime, and what has no meaning, which is refused by name."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.errors import BrokenArtifact
from efficientvit.model import EfficientViT
from export.targets.onnx.float16 import to_fp16
from export.targets.onnx.quantize import quantize
from export.targets.onnx.simplify import simplify
from export.targets.onnx.trace import capture, trace
from runtimes.artifact import Artifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import TensorType
from runtimes.onnx.graph import widened
from runtimes.onnx.operators import ONNX
from runtimes.onnx.program import read_program
from runtimes.onnx.reader import OnnxReader
from runtimes.onnx.runtime import oracle_session
from runtimes.onnx.tensors import OnnxTensors
from runtimes.precision import Dtype, Precision
from tests.integer_cpu import skip_without_exact_int8

Images = NDArray[np.float32]


def evaluated(model: onnx.ModelProto, images: Images, arithmetic: Arithmetic = Arithmetic.FLOAT32) -> NDArray[Any]:
    program = read_program(model)
    (image,), (logits,) = program.inputs, program.outputs
    found: NDArray[Any] = Evaluator(program, arithmetic, ONNX)({image: images})[logits].numpy()
    return found


def run(model: onnx.ModelProto, images: Images) -> NDArray[Any]:
    """By ONNX Runtime, without optimizations."""
    session = oracle_session(model.SerializeToString())
    found: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return found


def assert_near(found: NDArray[Any], wanted: NDArray[Any], error: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) <= error * np.linalg.norm(wanted)


@pytest.fixture(scope="module")
def traced(module: EfficientViT, folder: Path) -> Artifact:
    """What the product exports, by torch.export, for any batch."""
    deploy = to_deploy(module)
    return trace(capture(deploy, None), deploy, folder / "traced.onnx", batch=None, opset=18)


@pytest.fixture(scope="module")
def simplified(traced: Artifact, folder: Path) -> Artifact:
    return simplify(traced, folder / "simplified.onnx")


def test_every_tensor_of_an_export_is_typed(traced: Artifact) -> None:
    program, language = OnnxReader().program(traced)
    assert language is ONNX
    assert program.opset == "18"
    assert program.inputs == {"image": TensorType("fp32", (-1, 3, 64, 64))}
    assert program.outputs == ("logits",)
    assert all(declared is not None for operation in program.operations for _, declared in operation.outputs)
    conv = next(operation for operation in program.operations if operation.kind == "Conv")
    assert program.constants[str(conv.inputs["strides"])].value == [2, 2]
    assert conv.inputs["strides"] == f"{conv.name}:strides"
    assert isinstance(program.constants[str(conv.inputs["w"])].value, np.ndarray)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_a_traced_export(traced: Artifact, images: Images, batch: int) -> None:
    model = onnx.load(traced.path)
    assert_near(evaluated(model, images[:batch]), run(model, images[:batch]))


def test_the_trained_form_as_the_tracer_writes_it(onnx_any_batch: Artifact, images: Images, expected: Images) -> None:
    """With shapes computed from the image's."""
    assert_near(evaluated(onnx.load(onnx_any_batch.path), images), expected)


def test_a_simplified_export(simplified: Artifact, images: Images) -> None:
    model = onnx.load(simplified.path)
    assert_near(evaluated(model, images), run(model, images))


def test_float16(simplified: Artifact, folder: Path, images: Images) -> None:
    model = onnx.load(to_fp16(simplified, folder / "half.onnx", images).path)
    declared = evaluated(model, images, Arithmetic.DECLARED)
    assert_near(declared, run(model, images), 2e-2)
    assert np.array_equal(declared, declared.astype(np.float16))
    assert_near(evaluated(model, images), run(widened(model), images))


def assert_each_operation(model: onnx.ModelProto, images: Images) -> None:
    """Each operation, run on what ONNX Runtime feeds it: a rounding tie would move all that follows."""
    program, right = read_program(model), OnnxTensors(model)(images)
    kinds = {name: operation.kind for operation in program.operations for name, _ in operation.outputs}
    compared: set[str] = set()

    def exchange(name: str, value: torch.Tensor) -> torch.Tensor:
        wanted, found = right[name], value.numpy()
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(np.abs(wanted).max()))
        else:
            apart = np.abs(found.astype(int) - wanted.astype(int))
            assert apart.max() <= (kinds[name] in SUMMED_IN_INTEGERS), kinds[name]
            assert kinds[name] == "com.microsoft.QLinearSoftmax" or (apart > 0).mean() < 1e-2
        compared.add(name)
        return torch.from_numpy(wanted)

    Evaluator(program, Arithmetic.FLOAT32, ONNX)({next(iter(program.inputs)): images}, exchange=exchange)
    assert len(compared) > len(program.operations) // 2


SUMMED_IN_INTEGERS = {f"{domain}QLinear{kind}" for kind in ("Conv", "MatMul", "Softmax", "Add", "Mul", "Sigmoid")
                      for domain in ("", "com.microsoft.")}  # fmt: skip
"""Where ONNX Runtime rounds once what is rounded twice in floats."""


def optimized(source: Path, level: str) -> onnx.ModelProto:
    """By ONNX Runtime, offline."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(source.with_suffix(f".{level}.onnx"))
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.fixture(scope="module")
def unsigned(simplified: Artifact, folder: Path, images: Images) -> Path:
    precision = Precision(Dtype.INT8, Dtype.UINT8, Dtype.INT8)
    return quantize(simplified, folder / "unsigned.onnx", images, precision).path


def test_int8(simplified: Artifact, tmp_path: Path, images: Images) -> None:
    path = quantize(simplified, tmp_path / "int8.onnx", images, Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)).path
    assert_each_operation(onnx.load(path), images)


@pytest.mark.parametrize(
    ("level", "mark"),
    [(None, "QuantizeLinear"), ("EXTENDED", "QLinearConv"), ("ALL", "com.microsoft.QLinearConv")],
)
def test_uint8_activations(unsigned: Path, images: Images, level: str | None, mark: str) -> None:
    if level:
        skip_without_exact_int8()
    model = optimized(unsigned, level) if level else onnx.load(unsigned)
    assert mark in {operation.kind for operation in read_program(model).operations}
    assert_each_operation(model, images)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_what_onnx_runtime_optimized(simplified: Artifact, images: Images, level: str) -> None:
    model = optimized(simplified.path, level)
    kinds = {operation.kind for operation in read_program(model).operations}
    assert ("com.microsoft.FusedConv" in kinds) == (level == "EXTENDED")
    assert_near(evaluated(model, images), run(model, images))


def test_timms_export(images: Images, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model("efficientvit_m0", img_size=64, num_classes=10).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(2, 3, 64, 64),), tmp_path / "timm.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}},
            input_names=["x"],
        )  # fmt: skip
    model = onnx.load(tmp_path / "timm.onnx")
    assert_near(evaluated(model, images), run(model, images))


# What a file may hold beside one plain graph.

VALUE = helper.make_tensor_value_info


def model_of(nodes: list[onnx.NodeProto], *held: onnx.TensorProto, opset: int = 18, **more: Any) -> onnx.ModelProto:
    """x (2, 3) -> y."""
    graph = helper.make_graph(nodes, "g", [VALUE("x", 1, [2, 3])], [onnx.ValueInfoProto(name="y")], list(held))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


X = np.arange(6, dtype=np.float32).reshape(2, 3)
TWO = numpy_helper.from_array(np.array(2, np.float32), "two")


def test_local_functions_are_inlined() -> None:
    body = [helper.make_node("Mul", ["a", "a"], ["s"]), helper.make_node("Neg", ["s"], ["b"])]
    function = helper.make_function("local", "MinusSquare", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    model = model_of([helper.make_node("MinusSquare", ["x"], ["y"], domain="local")], functions=[function])
    assert np.array_equal(evaluated(model, X), -X * X)


@pytest.mark.parametrize(
    ("domain", "name", "opset"), [("", "Clip", 18), ("com.microsoft", "Gelu", 18), ("local", "F", 11)]
)
def test_a_function_that_a_runtime_may_understand_otherwise(domain: str, name: str, opset: int) -> None:
    """ONNX Runtime takes its own operator where a function has its name; the body may say anything."""
    body = [helper.make_node("Identity", ["a"], ["b"])]
    function = helper.make_function(domain, name, ["a"], ["b"], body, [helper.make_opsetid("", opset)])
    model = model_of([helper.make_node(name, ["x"], ["y"], domain=domain)], functions=[function])
    with pytest.raises(BrokenArtifact, match=f"{domain or 'ai.onnx'}.{name}"):
        read_program(model)


def test_an_initializer_that_is_an_input_too_is_a_constant() -> None:
    model = model_of([helper.make_node("Mul", ["x", "two"], ["y"])], TWO)
    model.graph.input.append(VALUE("two", 1, []))
    assert list(read_program(model).inputs) == ["x"]
    assert np.array_equal(evaluated(model, X), 2 * X)


def test_external_data(tmp_path: Path) -> None:
    big = numpy_helper.from_array(np.full((2, 3), 3, np.float32), "big")
    path = tmp_path / "external.onnx"
    onnx.save(model_of([helper.make_node("Mul", ["x", "big"], ["y"])], big), path, save_as_external_data=True,
              size_threshold=0)  # fmt: skip
    assert list(tmp_path.iterdir()) != [path]
    assert np.array_equal(evaluated(onnx.load(path), X), 3 * X)


def test_constant_nodes_of_every_kind() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.array([1, 2, 3], np.float32))),
        helper.make_node("Constant", [], ["b"], value_float=0.5),
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 0.0, 1.0]),
        helper.make_node("Constant", [], ["d"], value_ints=[3, 2]),
        helper.make_node("Constant", [], ["e"], value_int=-1),
        helper.make_node("Sum", ["x", "a", "b", "c"], ["s"]),
        helper.make_node("Reshape", ["s", "d"], ["r"]),
        helper.make_node("Gather", ["r", "e"], ["y"], axis=0),
    ]
    model = model_of(nodes)
    assert np.array_equal(evaluated(model, X), run(model, X))


def test_optional_inputs_and_several_outputs() -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "two"], ["c"]),
        helper.make_node("Split", ["c"], ["left", "", "right"], axis=1, num_outputs=3),
        helper.make_node("Sub", ["left", "right"], ["y"]),
    ]
    assert evaluated(model_of(nodes, TWO), X).tolist() == [[-2.0], [0.0]]


def test_types_that_nothing_tells_are_left_open() -> None:
    nodes = [
        helper.make_node("QuickGelu", ["x"], ["g"], domain="com.microsoft", alpha=1.0),
        helper.make_node("Relu", ["g"], ["y"]),
    ]
    program = read_program(model_of(nodes))
    assert [declared for operation in program.operations for _, declared in operation.outputs] == [None, None]
    assert_near(evaluated(model_of(nodes), X), X / (1 + np.exp(-X)))


def _if() -> onnx.NodeProto:
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [VALUE("z", 1, [2, 3])])
    return helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)


def _loop() -> onnx.NodeProto:
    ports = [VALUE("i", TensorProto.INT64, []), VALUE("go", TensorProto.BOOL, []), VALUE("v", 1, [2, 3])]
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["go2"])], "b", ports,
                             [VALUE("go2", TensorProto.BOOL, []), VALUE("v", 1, [2, 3])])  # fmt: skip
    return helper.make_node("Loop", ["", "flag", "x"], ["y"], body=body)


FLAG = numpy_helper.from_array(np.array(True), "flag")


@pytest.mark.parametrize("node", [_if(), _loop()], ids=["If", "Loop"])
def test_subgraphs_are_refused_by_name(node: onnx.NodeProto) -> None:
    with pytest.raises(BrokenArtifact, match="'y' of the ONNX file has a subgraph") as caught:
        read_program(model_of([node], FLAG))
    assert caught.value.got == node.op_type


@pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "Bernoulli", "NonZero", "Unique", "Hardmax"])
def test_operators_without_a_meaning_are_refused_by_name(kind: str) -> None:
    program = read_program(model_of([helper.make_node(kind, ["x"], ["y"])]))
    with pytest.raises(BrokenArtifact, match="'y' is of an unsupported kind") as caught:
        Evaluator(program, Arithmetic.FLOAT32, ONNX)
    assert caught.value.got == kind


def test_operators_of_other_domains_are_refused_by_name() -> None:
    program = read_program(model_of([helper.make_node("Relu", ["x"], ["y"], domain="local")]))
    with pytest.raises(BrokenArtifact) as caught:
        Evaluator(program, Arithmetic.FLOAT32, ONNX)
    assert caught.value.got == "local.Relu"


def _unknown_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("leak", 0.5))


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node.extend([model.graph.node[0]])


def _unheard(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nothing"


def _no_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nothing"


def _new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 10


def _two_opsets(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("", 11))


def _float8(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("f", TensorProto.FLOAT8E4M3FN, [1], [1.0]))


def _truncated(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", data_type=1, dims=[4], raw_data=b"1234"))


def _sparse(model: onnx.ModelProto) -> None:
    values, indices = (
        numpy_helper.from_array(np.ones(1, np.float32), "s"),
        numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))


def _shapes(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(VALUE("m", 1, [5, 5]))


def _attributes_twice(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.extend([helper.make_attribute("axis", 0), helper.make_attribute("axis", 1)])


def _unnamed(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = ""


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_unknown_attribute, "unsupported input: leak"),
        (_attributes_twice, "two attributes of the same name"),
        (_twice, "same name: 'm'"),
        (_unheard, "reads 'nothing'"),
        (_no_output, "no node of the ONNX file gives its output 'nothing'"),
        (_unnamed, "lacks its first output"),
        (_new, "unsupported opset"),
        (_two_opsets, "two opsets"),
        (_float8, "constant 'f' is of an unsupported dtype"),
        (_truncated, "constant 't' cannot be read"),
        (_sparse, "sparse"),
        (_shapes, "does not give what the file declares of 'm'"),
    ],
)
def test_what_a_file_must_not_hold(spoil: Callable[[onnx.ModelProto], None], says: str) -> None:
    model = model_of([helper.make_node("Mul", ["x", "two"], ["m"]), helper.make_node("Relu", ["m"], ["y"])], TWO)
    assert np.array_equal(evaluated(model, X), 2 * X)
    spoil(model)
    with pytest.raises(BrokenArtifact, match=says):
        evaluated(model, X)


@pytest.mark.parametrize(
    ("kind", "read"),
    [("MaxPool", "indices"), ("Dropout", "mask"), ("LayerNormalization", "mean"), ("BatchNormalization", "mean")],
)
def test_optional_outputs_that_are_read_are_refused(kind: str, read: str) -> None:
    node = helper.make_node(kind, ["x"], ["a", read])
    with pytest.raises(BrokenArtifact, match=f"reads '{read}'|statistics of a batch"):
        read_program(model_of([node, helper.make_node("Cast", [read], ["y"], to=1)]))
