"""Files of other tools: what they take and give is recognized, or said with what to do about it.

Of those that take images of any size, doing it gives a file that is taken.
"""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from efficientvit.errors import BadInput, BrokenArtifact
from efficientvit.size import ImageSize
from runtimes.artifact import Format
from runtimes.external import open_foreign
from runtimes.openvino.package import import_openvino

SIZE = ImageSize(height=64, width=96)


def _onnx(folder: Path, *shape: int | str) -> Path:
    """A classifier of three classes, whose scores are the channels' means."""
    axes = [1, 2] if shape[3] == 3 else [2, 3]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["photo", "axes"], ["scores"], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (shape[0], 3))],
        [numpy_helper.from_array(np.array(axes), "axes")],
    )
    path = folder / "any-size.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def _ir(folder: Path, *shape: int | str) -> Path:
    openvino = import_openvino()
    path = folder / "any-size.xml"
    openvino.save_model(openvino.convert_model(_onnx(folder, *shape)), path)
    return path


@pytest.mark.parametrize("make", [_onnx, _ir])
@pytest.mark.parametrize(
    ("shape", "said", "size"),
    [
        (("n", 3, "h", "w"), "(batch, 3, height, width)", SIZE),
        ((1, "h", "w", 3), "(1, height, width, 3)", SIZE),
        ((1, 3, 128, "w"), "(1, 3, 128, width)", ImageSize(height=128, width=96)),
    ],
)
def test_what_is_said_makes_a_copy_of_one_size(
    make: object, shape: tuple[int | str, ...], said: str, size: ImageSize, tmp_path: Path
) -> None:
    assert callable(make)
    path = make(tmp_path, *shape)
    with pytest.raises(BadInput, match="takes images of more than one size") as refused:
        open_foreign(path, "m0", 3, SIZE)
    assert said in str(refused.value)
    assert "64x96" in str(refused.value)
    command = (refused.value.next_step or "").split("`")[1]
    program, *arguments = shlex.split(command)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True)
    taken = open_foreign(tmp_path / f"fixed{path.suffix}", "m0", 3, SIZE)
    assert taken.artifact.model.image_size == size


def test_channels_that_are_not_stated_are_refused_as_before(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not take one image"):
        open_foreign(_onnx(tmp_path, "n", "c", "h", "w"), "m0", 3)


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 3), (1, 3, 1, 1)])
def test_scores_in_another_shape_are_said_to_be_that(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = _onnx(tmp_path, 1, 3, 64, 64)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "shape"))
    model.graph.node.append(helper.make_node("Reshape", ["scores", "shape"], ["flat"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("flat", TensorProto.FLOAT, shape))
    onnx.save(model, path)
    with pytest.raises(BadInput, match="gives the scores of 3 classes in another shape") as refused:
        open_foreign(path, "m0", 3, SIZE)
    assert "logits.reshape(len(images), 3)" in str(refused.value)


def test_a_single_logit_without_its_dimension_is_said_to_be_that(tmp_path: Path) -> None:
    path = _onnx(tmp_path, "n", 3, 64, 64)
    model = onnx.load(path)
    model.graph.node[0].input[1] = "all"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3]), "all"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("n",)))
    onnx.save(model, path)
    with pytest.raises(BadInput, match="gives the scores of 1 classes in another shape"):
        open_foreign(path, "m0", 1, SIZE)


def test_initializers_that_are_inputs_too_need_no_value(tmp_path: Path) -> None:
    path = _onnx(tmp_path, 1, 3, 64, 64)
    model = onnx.load(path)
    model.graph.input.insert(0, helper.make_tensor_value_info("axes", TensorProto.INT64, (2,)))
    model.ir_version = 3
    onnx.save(model, path)
    assert open_foreign(path, "m0", 3, SIZE).image.name == "photo"


def test_a_suffix_in_capitals_is_the_same(tmp_path: Path) -> None:
    path = _onnx(tmp_path, 1, 3, 64, 64).rename(tmp_path / "MODEL.ONNX")
    assert open_foreign(path, "m0", 3, SIZE).artifact.format == Format.ONNX


def test_an_ir_without_its_other_half(tmp_path: Path) -> None:
    path = _ir(tmp_path, 1, 3, 64, 64)
    path.with_suffix(".bin").unlink()
    with pytest.raises(BadInput, match="the other half of") as refused:
        open_foreign(path, "m0", 3, SIZE)
    assert refused.value.next_step == "copy any-size.bin from where the file was exported to, beside it"


def test_a_pointer_in_the_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(BrokenArtifact, match="a Git LFS pointer"):
        open_foreign(path, "m0", 3, SIZE)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("app.mlpackage/Manifest.json", b"{}", "is a part of app.mlpackage"),
        ("app.mlpackage/Data/model.mlmodel", b"", "is a part of app.mlpackage"),
        ("app.mlpackage", b"PK", "has to be unpacked"),
        ("app.mlpackage.zip", b"PK", "unpack it, and name"),
        ("old.mlmodel", b"", "Core ML's older format"),
        ("app.tflite", b"", "of a format that is not judged"),
    ],
)
def test_what_is_no_whole_package(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said):
        open_foreign(tmp_path / name, "m0", 3, SIZE)


def test_a_package_that_was_copied_in_part(tmp_path: Path) -> None:
    (tmp_path / "app.mlpackage" / "Data").mkdir(parents=True)
    with pytest.raises(BadInput, match="no whole Core ML package"):
        open_foreign(tmp_path / "app.mlpackage", "m0", 3, SIZE)


@pytest.mark.parametrize(("dtype", "inputs", "step"), [("DOUBLE", 1, "of float32"), ("FLOAT", 2, "its only input")])
def test_an_input_that_is_none_is_answered_with_what_to_change(
    dtype: str, inputs: int, step: str, tmp_path: Path
) -> None:
    path = _onnx(tmp_path, 1, 3, 64, 64)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DataType.Value(dtype)
    model.graph.input.extend(helper.make_tensor_value_info("mask", 1, (1, 1)) for _ in range(inputs - 1))
    onnx.save(model, path)
    with pytest.raises(BadInput, match="does not take one image") as refused:
        open_foreign(path, "m0", 3, SIZE)
    assert step in str(refused.value.next_step)


@pytest.mark.parametrize(
    "left_out",
    [lambda kind: kind.ClearField("shape"), lambda kind: kind.shape.dim[1].Clear()],
    ids=["all of it", "the classes"],
)
def test_an_output_whose_shape_is_left_open_is_inferred(left_out: Callable[[Any], None], tmp_path: Path) -> None:
    path = _onnx(tmp_path, 1, 3, 64, 96)
    declared = open_foreign(path, "m0", 3)
    model = onnx.load(path)
    left_out(model.graph.output[0].type.tensor_type)
    onnx.save(model, path)
    assert open_foreign(path, "m0", 3).output == declared.output


def test_a_shape_that_nothing_tells_is_said_so(tmp_path: Path) -> None:
    path = _onnx(tmp_path, 1, 3, 64, 96)
    model = onnx.load(path)
    model.graph.node[0].output[0] = "plain"
    model.graph.node.add(op_type="QuickGelu", domain="com.microsoft", input=["plain"], output=["scores"])
    model.opset_import.add(domain="com.microsoft", version=1)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    with pytest.raises(BadInput, match="declares no shape for its output"):
        open_foreign(path, "m0", 3)
