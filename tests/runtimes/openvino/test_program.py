"""IRs as programs: run by the evaluator, they give what OpenVINO's CPU plugin gives in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset14 as op
import pytest
import torch
from numpy.typing import NDArray

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.errors import BrokenArtifact
from efficientvit.model import EfficientViT
from runtimes.artifact import Artifact, Format
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import Program, TensorType
from runtimes.openvino.operators import OPENVINO
from runtimes.openvino.program import read_program
from runtimes.openvino.reader import OpenVinoReader

Images = NDArray[np.float32]


def computed(program: Program, x: Any) -> Any:
    """The first output, by the evaluator."""
    evaluator = Evaluator(program, Arithmetic.FLOAT32, OPENVINO)
    return evaluator({next(iter(program.inputs)): x})[program.outputs[0]].numpy()


def same(model: Any, x: Any) -> None:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(computed(read_program(model), x), compiled(x)[0], rtol=1e-4, atol=1e-4)


def saved(model: Any, path: Path, *, halves: bool) -> Any:
    ov.save_model(model, path, compress_to_fp16=halves)
    return ov.Core().read_model(path)


def test_an_ir_converted_from_onnx(ir_batch_1: Artifact, images: Images, expected: Images) -> None:
    program, language = OpenVinoReader().program(ir_batch_1)
    assert language is OPENVINO
    assert (program.inputs, program.outputs) == ({"images": TensorType("fp32", (1, 3, 64, 64))}, ("logits",))
    assert program.ports() == OpenVinoReader().ports(ir_batch_1)
    np.testing.assert_allclose(computed(program, images[:1]), expected[:1], rtol=1e-4, atol=1e-4)
    same(ov.Core().read_model(ir_batch_1.path), images[:1])


@pytest.mark.parametrize("batch", [1, 3])
def test_an_ir_of_any_batch(ir_any_batch: Artifact, images: Images, expected: Images, batch: int) -> None:
    program, _ = OpenVinoReader().program(ir_any_batch)
    assert program.inputs["images"].shape[0] == -1
    np.testing.assert_allclose(computed(program, images[:batch]), expected[:batch], rtol=1e-4, atol=1e-4)
    same(ov.Core().read_model(ir_any_batch.path), images[:batch])


def test_an_ir_compressed_to_fp16(onnx_any_batch: Artifact, images: Images, tmp_path: Path) -> None:
    model = saved(ov.convert_model(onnx_any_batch.path), tmp_path / "halves.xml", halves=True)
    program = read_program(model)
    assert {constant.type.dtype for constant in program.constants.values()} >= {"fp16", "int64"}
    same(model, images)


@pytest.mark.parametrize("form", ["trained", "deployed"])
@pytest.mark.parametrize("batch", [-1, 2])
def test_openvino_s_own_conversion_of_a_module(
    module: EfficientViT, images: Images, tmp_path: Path, form: str, batch: int
) -> None:
    converted = ov.convert_model(
        module if form == "trained" else to_deploy(module),
        example_input=torch.zeros(2, 3, 64, 64),
        input=[batch, 3, 64, 64],
    )
    same(saved(converted, tmp_path / "own.xml", halves=False), images[:2])


@pytest.mark.parametrize("stored", ["u8", "i8", "u4", "i4", "bf16", "f16", "f64"])
def test_constants_of_every_type(stored: str, tmp_path: Path) -> None:
    """As compressed weights lie in files: converted, and scaled."""
    values = np.random.default_rng(0).integers(0 if stored.startswith("u") else -7, 8, (3, 5))
    weight = ov.op.Constant(getattr(ov.Type, stored), ov.Shape([3, 5]), values.reshape(-1).tolist())
    x = op.parameter([2, 5], np.float32, name="x")
    scaled = op.multiply(op.convert(weight, "f32"), op.constant(np.full((3, 1), 0.25, np.float32)))
    model = ov.Model([op.result(op.matmul(x, scaled, False, True))], [x], "weights")
    given = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    for each in (model, saved(model, tmp_path / "weights.xml", halves=False)):
        np.testing.assert_allclose(computed(read_program(each), given), given @ values.T * 0.25, rtol=1e-5, atol=1e-5)


def test_constants_of_a_type_that_is_not_read() -> None:
    weight = ov.op.Constant(ov.Type.f8e4m3, ov.Shape([2]), [1.0, 2.0])
    model = ov.Model([op.result(op.convert(weight, "f32"))], [op.parameter([1], np.float32)], "eight")
    with pytest.raises(BrokenArtifact, match="unsupported type"):
        read_program(model)


def test_several_operations_of_one_name() -> None:
    x = op.parameter([2, 4], np.float32, name="x")
    first, second = op.split(x, op.constant(1), 2).outputs()
    one, two = op.relu(first, name="same"), op.negative(second, name="same")
    model = ov.Model([op.result(op.add(one, two))], [x], "names")
    program = read_program(model)
    names = [name for operation in program.operations for name, _ in operation.outputs]
    assert len(set(names)) == len(names) == 5
    same(model, np.arange(-4, 4, dtype=np.float32).reshape(2, 4))


def test_inputs_and_outputs_keep_the_order_of_the_model() -> None:
    first, second = (op.parameter([2], np.float32, name=name) for name in ("first", "second"))
    model = ov.Model([op.result(op.negative(second)), op.result(op.relu(first))], [first, second], "order")
    program = read_program(model)
    assert tuple(program.inputs) == ("first", "second")
    answer = Evaluator(program, Arithmetic.FLOAT32, OPENVINO)({"first": np.ones(2), "second": np.full(2, 5.0)})
    assert [answer[name].tolist() for name in program.outputs] == [[-5, -5], [1, 1]]


def test_control_flow_is_refused_by_name() -> None:
    x = op.parameter([2], np.float32, name="x")
    inner = op.parameter([2], np.float32)
    branches = [ov.Model([op.result(make(inner))], [inner], "body") for make in (op.relu, op.negative)]
    chosen = op.if_op(op.greater(op.reduce_sum(x, op.constant([0])), op.constant(np.float32(0))).output(0))
    for set_body, body in zip((chosen.set_then_body, chosen.set_else_body), branches, strict=True):
        set_body(body)
    chosen.set_input(x.output(0), branches[0].get_parameters()[0], branches[1].get_parameters()[0])
    result = chosen.set_output(branches[0].get_results()[0], branches[1].get_results()[0])
    program = read_program(ov.Model([op.result(result)], [x], "choice"))
    with pytest.raises(BrokenArtifact, match="unsupported kind") as caught:
        Evaluator(program, Arithmetic.FLOAT32, OPENVINO)
    assert caught.value.got == "If"


def test_the_types_of_artifacts(ir_batch_1: Artifact) -> None:
    """Every operation of a static IR declares its shape, and nothing is left open."""
    assert ir_batch_1.format is Format.OPENVINO
    program, _ = OpenVinoReader().program(ir_batch_1)
    assert all(kind is not None and -1 not in kind.shape for each in program.operations for _, kind in each.outputs)
