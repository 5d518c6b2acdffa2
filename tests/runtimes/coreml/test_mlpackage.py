"""A saved program as it is read, refused and evaluated: everything that a file can get wrong is named."""

import contextlib
import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientvit.errors import BrokenArtifact, MissingExtra
from efficientvit.spec import model_spec
from export.targets.coreml.package import MODEL, write_model
from runtimes.artifact import Artifact, Format
from runtimes.coreml.evaluated import behind_preprocessing
from runtimes.coreml.mlpackage import load_model, load_program
from runtimes.coreml.operators import MIL
from runtimes.coreml.reader import CoreMlReader
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import Constant, Operation, Program, TensorType

WEIGHTS = MODEL.parent / "weights" / "weight.bin"
X = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((2, 2, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def healthy(save: Any) -> Path:
    """x -> conv c -> pad p -> relu r -> split s_0, s_1 -> concat k (swapped) -> cast out."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its name in every example

    @mb.program(input_specs=[mb.TensorSpec(shape=X.shape)], opset_version=ct.target.iOS15)  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:
        c = mb.conv(x=x, weight=WEIGHT, pad_type="custom", pad=[1, 1, 1, 1], name="c")
        p = mb.pad(x=c, pad=[1, 1], mode="constant", constant_val=np.float32(0), name="p")
        r = mb.relu(x=p, name="r")
        first, second = mb.split(x=r, num_splits=2, axis=1, name="s")
        k = mb.concat(values=(second, first), axis=1, name="k")
        return mb.cast(x=k, dtype="fp32", name="out")

    package: Path = save(program, pass_pipeline=ct.PassPipeline.EMPTY)
    return package


@pytest.fixture
def package(healthy: Path, tmp_path: Path) -> Path:
    """A copy of the healthy package, to be spoiled."""
    return Path(shutil.copytree(healthy, tmp_path / "spoiled.mlpackage"))


class Block:
    """The operations of a saved program, to be changed; saved again when the block is left."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._model = load_model(package)

    def __enter__(self) -> "Block":
        return self

    def __exit__(self, *_: object) -> None:
        write_model(self._package, self._model)

    @property
    def model(self) -> Any:
        return self._model

    @property
    def function(self) -> Any:
        return self._model.mlProgram.functions["main"]

    @property
    def proto(self) -> Any:
        return self.function.block_specializations[self.function.opset]

    def __getitem__(self, output: str) -> Any:
        """The operation that gives `output`."""
        (found,) = [op for op in self.proto.operations if output in [given.name for given in op.outputs]]
        return found

    def type_of(self, output: str) -> Any:
        (found,) = [given for given in self[output].outputs if given.name == output]
        return found.type.tensorType

    def text(self, constant: str, text: str) -> None:
        self[constant].attributes["val"].immediateValue.tensor.strings.values[0] = text


def evaluated(package: Path) -> Any:
    return Evaluator(load_program(package), Arithmetic.FLOAT32, MIL)({"x": X})["out"].numpy()


def test_what_is_read_is_what_was_saved(package: Path) -> None:
    program = load_program(package)
    assert program.opset == "CoreML5"
    assert program.inputs == {"x": TensorType("fp32", (1, 2, 4, 4))}
    assert program.outputs == ("out",)
    assert [operation.kind for operation in program.operations] == ["conv", "pad", "relu", "split", "concat", "cast"]
    assert program.operations[4].inputs["values"] == ("s_1", "s_0")
    assert [name for name, _ in program.operations[3].outputs] == ["s_0", "s_1"]
    assert program.types()["p"] == TensorType("fp32", (1, 2, 4, 6))
    weight = program.constants["c_weight_0"]
    assert np.array_equal(weight.value, WEIGHT)
    assert (weight.type, weight.stored) == (TensorType("fp32", WEIGHT.shape), "const")
    assert program.constants["c_pad_type_0"].value == "custom"
    assert program.constants["c_groups_0"].value == 1
    assert program.constants["k_interleave_0"].value is False


def test_it_computes_what_torch_computes(package: Path) -> None:
    y = torch.nn.functional.conv2d(torch.from_numpy(X), torch.from_numpy(WEIGHT), padding=1)
    y = torch.nn.functional.pad(y, (1, 1)).relu().flip(1)
    assert np.array_equal(evaluated(package), y.numpy())


def test_a_constant_without_an_operation_is_read_where_it_is_used(package: Path) -> None:
    before = evaluated(package)
    with Block(package) as block:
        for owner, operand in (("p", "mode"), ("p", "pad"), ("s_0", "axis"), ("c", "pad_type")):
            (argument,) = block[owner].inputs[operand].arguments
            constant = block[argument.name]
            argument.value.CopyFrom(constant.attributes["val"])
            block.proto.operations.remove(constant)
    assert np.array_equal(evaluated(package), before)


Plant = Callable[[Block], object]


def _unknown_kind(block: Block) -> None:
    block["r"].type = "gelu"


def _unknown_operand(block: Block) -> None:
    block["r"].inputs["alpha"].arguments.add().name = "p_constant_val_0"


def _missing_operand(block: Block) -> None:
    del block["r"].inputs["x"]


def _pad_type(block: Block) -> None:
    block.text("c_pad_type_0", "reflect")


def _mode(block: Block) -> None:
    block.text("p_mode_0", "replicate")


def _cast(block: Block) -> None:
    block.text("out_dtype_0", "int32")


def _interleave(block: Block) -> None:
    block["k_interleave_0"].attributes["val"].immediateValue.tensor.bools.values[0] = True


def _unknown_dtype(block: Block) -> None:
    block.type_of("r").dataType = 13  # BFLOAT16


def _integers(block: Block) -> None:
    block.type_of("r").dataType = 23  # INT32


def _wrong_shape(block: Block) -> None:
    block.type_of("p").dimensions[3].constant.size = 5


def _wrong_rank(block: Block) -> None:
    block.type_of("p").rank = 3


def _dynamic(block: Block) -> None:
    block.type_of("p").dimensions[3].unknown.variadic = False


def _dynamic_input(block: Block) -> None:
    block.function.inputs[0].type.tensorType.dimensions[0].unknown.variadic = False


def _twice(block: Block) -> None:
    block["r"].outputs[0].name = "p"


def _twice_as_constant(block: Block) -> None:
    block["p_mode_0"].outputs[0].name = "p_pad_0"


def _input_again(block: Block) -> None:
    block["c"].outputs[0].name = "x"


def _too_early(block: Block) -> None:
    operation = type(block["r"])()
    operation.CopyFrom(block["r"])
    block.proto.operations.remove(block["r"])
    block.proto.operations.insert(0, operation)


def _reads_itself(block: Block) -> None:
    block["r"].inputs["x"].arguments[0].name = "r"


def _no_such_value(block: Block) -> None:
    block["k"].inputs["values"].arguments[1].name = "s_2"


def _no_such_output(block: Block) -> None:
    block.proto.outputs[0] = "logits"


def _one_output_too_few(block: Block) -> None:
    block["k"].inputs["values"].arguments[0].name = "s_0"
    del block["s_0"].outputs[1]


def _no_output(block: Block) -> None:
    del block["out"].outputs[:]


def _inner_block(block: Block) -> None:
    block["r"].blocks.add()


def _constant_of_another_type(block: Block) -> None:
    block.type_of("c_weight_0").dimensions[2].constant.size = 2


def _too_few_values(block: Block) -> None:
    block["p_pad_0"].attributes["val"].immediateValue.tensor.ints.values.append(1)


def _values_of_another_type(block: Block) -> None:
    block["c_pad_0"].attributes["val"].immediateValue.tensor.floats.values.extend([1, 1, 1, 1])


def _no_values(block: Block) -> None:
    block["c_pad_0"].attributes["val"].immediateValue.tensor.Clear()


def _two_texts(block: Block) -> None:
    block["p_mode_0"].attributes["val"].immediateValue.tensor.strings.values.append("replicate")


def _elsewhere(block: Block) -> None:
    block["c_weight_0"].attributes["val"].blobFileValue.fileName = "/etc/weight.bin"


def _outside(block: Block) -> None:
    block["c_weight_0"].attributes["val"].blobFileValue.fileName = "@model_path/../../../weight.bin"


def _no_such_file(block: Block) -> None:
    block["c_weight_0"].attributes["val"].blobFileValue.fileName = "@model_path/weights/other.bin"


def _off_the_grid(block: Block) -> None:
    block["c_weight_0"].attributes["val"].blobFileValue.offset = 65


def _beyond_the_end(block: Block) -> None:
    block["c_weight_0"].attributes["val"].blobFileValue.offset = 6400


def _another_function(block: Block) -> None:
    block.model.mlProgram.functions["other"].CopyFrom(block.function)


def _another_opset(block: Block) -> None:
    block.function.opset = "CoreML9"


def _another_specialization(block: Block) -> None:
    block.function.block_specializations["CoreML8"].CopyFrom(block.proto)


def _flexible(block: Block) -> None:
    block.function.attributes["FlexibleShapeInformation"].SetInParent()


def _updatable(block: Block) -> None:
    block.model.isUpdatable = True


def _stateful(block: Block) -> None:
    block.model.description.state.add(name="count")


def _another_default(block: Block) -> None:
    block.model.description.defaultFunctionName = "other"


def _described_twice(block: Block) -> None:
    block.model.description.functions.add(name="main")


def _of_the_future(block: Block) -> None:
    block.model.MergeFromString(b"\xfa\x7f\x03new")


def _no_program(block: Block) -> None:
    block.model.neuralNetwork.SetInParent()


FAULTS: tuple[tuple[Plant, str], ...] = (
    (_unknown_kind, "operation 'r' is of an unsupported kind.* gelu"),
    (_unknown_operand, "relu 'r' has an unsupported input: alpha"),
    (_missing_operand, "relu 'r' lacks its input x"),
    (_pad_type, "conv 'c' cannot be evaluated.*pad_type 'reflect'"),
    (_mode, "pad 'p' cannot be evaluated.*mode 'replicate'"),
    (_cast, "cast 'out' cannot be evaluated.*a cast to 'int32'"),
    (_interleave, "concat 'k' cannot be evaluated.*interleave"),
    (_unknown_dtype, "'r' has an unsupported type.*BFLOAT16"),
    (_integers, r"relu 'r' does not give what the file declares of 'r'.*int32 \(1, 2, 4, 6\).*\(1, 2, 4, 6\)"),
    (_wrong_shape, r"pad 'p' does not give what the file declares of 'p'.*\(1, 2, 4, 5\).*\(1, 2, 4, 6\)"),
    (_wrong_rank, "'p' is declared of rank 3 with 4 dimensions"),
    (_dynamic, "'p' has a dynamic shape"),
    (_dynamic_input, "'x' has a dynamic shape"),
    (_twice, "'p' is defined twice"),
    (_twice_as_constant, "'p_pad_0' is defined twice"),
    (_input_again, "'x' is defined twice"),
    (_too_early, "relu 'r' reads 'p', which is not defined"),
    (_reads_itself, "relu 'r' reads 'r', which is not defined"),
    (_no_such_value, "concat 'k' reads 's_2', which is not defined"),
    (_no_such_output, "the output 'logits' is not defined"),
    (_one_output_too_few, "split 's_0' has another number of outputs than it declares.*1.*2"),
    (_no_output, "operation 'cast' has inner blocks or no output"),
    (_inner_block, "operation 'relu' has inner blocks or no output"),
    (_constant_of_another_type, r"constant 'c_weight_0' is fp32 \(2, 2, 3, 3\) and declared fp32 \(2, 2, 2, 3\)"),
    (_too_few_values, r"constant 'p_pad_0' has 3 values of int32 for int32 \(2\)"),
    (_values_of_another_type, r"constant 'c_pad_0' has 4 values of float32 for int32 \(4\)"),
    (_no_values, "constant 'c_pad_0' has no value"),
    (_two_texts, r"constant 'p_mode_0' has 2 values for string \(\)"),
    (_elsewhere, "constant 'c_weight_0' lies in '/etc/weight.bin', outside of the package"),
    (_outside, r"constant 'c_weight_0' lies in '@model_path/\.\./.*', outside of the package"),
    (_no_such_file, "the weights 'other.bin' of the package cannot be read"),
    (_off_the_grid, "constant 'c_weight_0' in weight.bin cannot be read.*offset 65"),
    (_beyond_the_end, "constant 'c_weight_0' in weight.bin cannot be read.*offset 6400"),
    (_another_function, "spoiled.mlpackage is not a program of one function"),
    (_another_opset, "spoiled.mlpackage is not a program of one function"),
    (_another_specialization, "spoiled.mlpackage is not a single block.*CoreML5, CoreML8"),
    (_flexible, "spoiled.mlpackage is not a single block.*FlexibleShapeInformation.*convert it for one size"),
    (_updatable, "spoiled.mlpackage declares more than a program.*isUpdatable"),
    (_stateful, "spoiled.mlpackage declares more than a program.*state"),
    (_another_default, "spoiled.mlpackage declares more than a program.*defaultFunctionName"),
    (_described_twice, "spoiled.mlpackage declares more than a program.*functions"),
    (_of_the_future, "spoiled.mlpackage holds fields that the installed coremltools does not know.*6 unknown bytes"),
    (_no_program, "spoiled.mlpackage holds no ML program.*neuralNetwork"),
)


@pytest.mark.parametrize(("plant", "named"), FAULTS, ids=[plant.__name__.strip("_") for plant, _ in FAULTS])
def test_a_fault_in_the_program_is_refused_by_name(plant: Plant, named: str, package: Path) -> None:
    with Block(package) as block:
        plant(block)
    with pytest.raises(BrokenArtifact, match=f"(?s){named}"):
        evaluated(package)


def _input_renamed(description: Any) -> None:
    description.input[0].name = "photo"


def _one_output_more(description: Any) -> None:
    description.output.add().CopyFrom(description.output[0])
    description.output[1].name = "more"


def _no_output_left(description: Any) -> None:
    del description.output[:]


def _wider_input(description: Any) -> None:
    description.input[0].type.multiArrayType.shape[-1] = 8


def _an_image_of_other_sides(description: Any) -> None:
    image = description.input[0].type.imageType
    image.height, image.width = 8, 4


def _shorter_output(description: Any) -> None:
    description.output[0].type.multiArrayType.shape[:] = [1, 2, 4, 5]


def _input_left_out(description: Any) -> None:
    description.input[0].type.isOptional = True


def _input_of_more_sizes(description: Any) -> None:
    shapes = description.input[0].type.multiArrayType.enumeratedShapes.shapes
    for batch in (1, 2):
        shapes.add().shape.extend([batch, *X.shape[1:]])


MISFITS: tuple[tuple[Callable[[Any], None], str], ...] = (
    (_input_renamed, "different inputs.*'x'.*'photo'"),
    (_one_output_more, "different outputs.*'out'.*'more'"),
    (_no_output_left, "different outputs.*'out'"),
    (_wider_input, r"different inputs.*\(1, 2, 4, 4\).*\(1, 2, 4, 8\)"),
    (_an_image_of_other_sides, r"different inputs.*\(1, 2, 4, 4\).*\(1, 3, 8, 4\)"),
    (_shorter_output, r"different outputs.*\(1, 2, 4, 6\).*\(1, 2, 4, 5\)"),
    (_input_left_out, "lets its input be left out.*'x'"),
    (_input_of_more_sizes, "lets its input be left out.*'x'"),
)


@pytest.mark.parametrize(("change", "named"), MISFITS, ids=[change.__name__.strip("_") for change, _ in MISFITS])
def test_a_description_that_does_not_fit_the_program_is_refused(
    change: Callable[[Any], None], named: str, package: Path
) -> None:
    """An app follows the description; what is proven is the program."""
    artifact = Artifact.on_disk(package, Format.COREML, model_spec("m0"), made_by="test")
    inputs, outputs = CoreMlReader().program_ports(artifact)
    assert [port.name for port in (*inputs, *outputs)] == ["x", "out"]
    with Block(package) as block:
        change(block.model.description)
    with pytest.raises(BrokenArtifact, match=f"(?s){named}"):
        CoreMlReader().program_ports(artifact)


def _record(package: Path, field: int, value: int) -> None:
    """Write a field of the metadata record of the one tensor in the weight file."""
    path = package / WEIGHTS
    data = bytearray(path.read_bytes())
    struct.pack_into("<I" if field < 8 else "<Q", data, 64 + field, value)
    path.write_bytes(data)


def test_the_weight_file_holds_one_tensor_behind_one_record(package: Path) -> None:
    data = (package / WEIGHTS).read_bytes()
    assert struct.unpack_from("<II", data) == (1, 2)
    assert struct.unpack_from("<IIQQ", data, 64) == (0xDEADBEEF, 2, 4 * WEIGHT.size, 128)
    assert np.array_equal(np.frombuffer(data, "<f4", WEIGHT.size, 128), WEIGHT.ravel())


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        (0, 0xDEADBEE0, "sentinel 0xdeadbee0"),
        (4, 1, "fp16"),
        (4, 99, "dtype number 99"),
        (8, 4 * WEIGHT.size - 4, "140 bytes"),
        (8, 4 * WEIGHT.size + 4, "bytes"),
        (16, 6400, "6400"),
    ],
)
def test_a_wrong_record_in_the_weight_file_is_refused(field: int, value: int, named: str, package: Path) -> None:
    _record(package, field, value)
    with pytest.raises(BrokenArtifact, match=r"constant 'c_weight_0' in weight\.bin cannot be read") as caught:
        load_program(package)
    assert named in str(caught.value.got)


def test_a_weight_file_of_another_version_is_refused(package: Path) -> None:
    path = package / WEIGHTS
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 4, 3)
    path.write_bytes(data)
    with pytest.raises(BrokenArtifact, match=r"weight\.bin is not a weight file"):
        load_program(package)


@pytest.mark.parametrize("kept", [0, 32, 100, 200])
def test_a_weight_file_that_is_cut_off_is_refused(kept: int, package: Path) -> None:
    path = package / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BrokenArtifact, match=r"weight\.bin"):
        load_program(package)


@pytest.mark.parametrize("file", ["Manifest.json", str(MODEL), str(WEIGHTS)])
def test_a_file_that_is_missing_is_refused_by_name(file: str, package: Path) -> None:
    (package / file).unlink()
    with pytest.raises(BrokenArtifact) as caught:
        load_program(package)
    assert Path(file).name in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"itemInfoEntries": {}, "rootModelIdentifier": "a"}'])
def test_a_manifest_that_names_no_model_is_refused(text: str, package: Path) -> None:
    (package / "Manifest.json").write_text(text)
    with pytest.raises(BrokenArtifact, match=r"spoiled\.mlpackage cannot be read as a Core ML package"):
        load_program(package)


def test_only_the_model_that_the_manifest_names_is_read(package: Path) -> None:
    before = evaluated(package)
    stray = package / "Data" / "another" / "model.mlmodel"
    stray.parent.mkdir()
    stray.write_bytes(b"no model")
    assert np.array_equal(evaluated(package), before)


def test_a_manifest_may_put_the_model_anywhere_in_the_package(package: Path) -> None:
    before = evaluated(package)
    shutil.move(package / MODEL.parent, package / "Data" / "elsewhere")
    path = package / "Manifest.json"
    manifest = json.loads(path.read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "elsewhere/model.mlmodel"
    path.write_text(json.dumps(manifest))
    assert np.array_equal(evaluated(package), before)


@pytest.mark.parametrize("file", [MODEL, WEIGHTS], ids=["model", "weights"])
@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    file: Path, healthy: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray((healthy / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    package = tmp_path_factory.mktemp("damaged") / "p.mlpackage"
    shutil.copytree(healthy, package)
    (package / file).write_bytes(content)
    with contextlib.suppress(BrokenArtifact):
        program = load_program(package)
        feeds = {name: torch.zeros(kind.shape) for name, kind in program.inputs.items()}
        Evaluator(program, Arithmetic.DECLARED, MIL)(feeds)
    shutil.rmtree(package.parent)


def test_without_coremltools_the_extra_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools.proto", None)
    with pytest.raises(MissingExtra, match="coremltools"):
        load_program(package)


def chain(steps: list[tuple[str, float]], dtype: str = "fp16", size: int = 1) -> Program:
    """x -> t0 -> t1 -> ...: operations with a constant as y (None: without), every result declared `dtype`."""
    kind = TensorType(dtype, (size,))
    operations = []
    constants: dict[str, Constant] = {}
    name = "x"
    for i, (operation, y) in enumerate(steps):
        inputs: dict[str, str | tuple[str, ...]] = {"x": name}
        if operation != "relu":
            inputs["y"] = f"y{i}"
            constants[f"y{i}"] = Constant(np.array(y, np.float16), TensorType("fp16", ()))
        name = f"t{i}"
        operations.append(Operation(operation, inputs, ((name, kind),)))
    return Program("CoreML5", {"x": TensorType("fp32", (size,))}, (name,), tuple(operations), constants)


def run(program: Program, arithmetic: Arithmetic, x: Any, dtype: type = np.float64) -> Any:
    (name,) = program.outputs
    return Evaluator(program, arithmetic, MIL)({"x": np.atleast_1d(np.asarray(x, dtype))})[name].numpy()


def test_declared_rounds_between_two_operations_and_float32_does_not() -> None:
    program = chain([("add", 1), ("sub", 2048)])  # from 2048 on, float16 holds even numbers only
    assert run(program, Arithmetic.DECLARED, 2048) == [0]
    assert run(program, Arithmetic.FLOAT32, 2048) == [1]
    assert run(program, Arithmetic.FLOAT64, 2048) == [1]


@pytest.mark.parametrize(("x", "rounded"), [(1 + 2**-11, 1), (1 + 3 * 2**-11, 1 + 2**-9), (2**-25, 0), (2049.5, 2050)])
def test_declared_rounds_to_the_nearest_and_ties_to_even(x: float, rounded: float) -> None:
    assert run(chain([("relu", 0)]), Arithmetic.DECLARED, x) == [rounded]
    assert run(chain([("relu", 0)]), Arithmetic.FLOAT32, x) == [x]


def test_declared_overflows_where_float16_does() -> None:
    program = chain([("add", 60000), ("sub", 60000)])
    assert run(program, Arithmetic.DECLARED, 60000) == [np.inf]
    assert run(program, Arithmetic.FLOAT32, 60000) == [60000]


def test_what_is_declared_float32_is_left_in_float32() -> None:
    assert run(chain([("add", 1), ("sub", 2048)], "fp32"), Arithmetic.DECLARED, 2048) == [1]


def test_what_is_fed_is_rounded_as_it_is_declared() -> None:
    program = chain([("mul", 1), ("mul", 1)], "fp32")
    halved = Program(program.opset, {"x": TensorType("fp16", (1,))}, *_rest(program))
    x = 1 + 2**-11
    assert run(program, Arithmetic.DECLARED, x) == [x]
    assert run(halved, Arithmetic.DECLARED, x) == [1]
    assert run(halved, Arithmetic.FLOAT32, x) == [x]


def _rest(program: Program) -> tuple[Any, ...]:
    return program.outputs, program.operations, program.constants


def test_float64_keeps_what_float32_cannot() -> None:
    program = chain([("add", 1), ("sub", 1)])
    assert run(program, Arithmetic.FLOAT64, 2**-40) == [2**-40]
    assert run(program, Arithmetic.FLOAT32, 2**-40) == [0]
    assert run(program, Arithmetic.FLOAT64, 1).dtype == np.float64
    assert run(program, Arithmetic.DECLARED, 1).dtype == np.float32


NUMPY = {"add": np.add, "sub": np.subtract, "mul": np.multiply}
halves = st.floats(-100, 100, width=16)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["add", "sub", "mul", "relu"]), halves), min_size=1, max_size=8), halves)
@example([("mul", 100.0), ("mul", 100.0), ("mul", 100.0), ("sub", 1.0)], 100.0)
def test_declared_is_float16_after_every_operation(steps: list[tuple[str, float]], x: float) -> None:
    expected = np.float16(x)
    with np.errstate(over="ignore", invalid="ignore"):
        for kind, y in steps:
            expected = np.maximum(expected, np.float16(0)) if kind == "relu" else NUMPY[kind](expected, np.float16(y))
    assert np.array_equal(run(chain(steps), Arithmetic.DECLARED, x), [np.float32(expected)], equal_nan=True)


def test_the_largest_magnitude_of_every_tensor_is_gathered_over_the_runs() -> None:
    program = chain([("add", 1), ("relu", 0)], "fp32", size=2)
    evaluator = Evaluator(program, Arithmetic.FLOAT32, MIL)
    evaluator({"x": np.array([9.0, 0.0])})
    assert evaluator.largest == {}  # nobody watched
    evaluator({"x": np.array([2.0, -6.0])}, watch=True)
    assert evaluator.largest == {"t0": 5, "t1": 3}
    evaluator({"x": np.array([3.0, 0.0])}, watch=True)
    assert evaluator.largest == {"t0": 5, "t1": 4}


def test_nan_counts_as_infinite_and_stays() -> None:
    program = chain([("add", 1), ("mul", 0), ("relu", 0)], "fp32")
    evaluator = Evaluator(program, Arithmetic.FLOAT32, MIL)
    evaluator({"x": np.array([np.inf])}, watch=True)
    assert evaluator.largest == {"t0": np.inf, "t1": np.inf, "t2": np.inf}
    evaluator({"x": np.array([1.0])}, watch=True)
    assert evaluator.largest["t1"] == np.inf
    half_nan = chain([("mul", 1)], "fp32", size=2)
    evaluator = Evaluator(half_nan, Arithmetic.FLOAT32, MIL)
    evaluator({"x": np.array([np.nan, 7.0])}, watch=True)
    assert evaluator.largest == {"t0": np.inf}


def test_any_tensor_can_be_fed_and_any_asked_for() -> None:
    program = chain([("add", 1), ("mul", 3), ("sub", 2)], "fp32")
    evaluator = Evaluator(program, Arithmetic.FLOAT32, MIL, ("t0", "t2"))
    assert {k: v.item() for k, v in evaluator({"x": np.array([4.0])}).items()} == {"t0": 5, "t2": 13}
    # What is fed is not computed again, and nothing before it is needed.
    assert Evaluator(program, Arithmetic.FLOAT32, MIL, ("t2",))({"t0": np.array([10.0])})["t2"].item() == 28
    assert {k: v.item() for k, v in evaluator({"t0": np.array([10.0])}).items()} == {"t0": 10, "t2": 28}


def test_feeds_that_do_not_fit_are_refused_by_name() -> None:
    program = chain([("add", 1)], "fp32")
    evaluator = Evaluator(program, Arithmetic.FLOAT32, MIL)
    with pytest.raises(BrokenArtifact, match=r"(?s)what it is fed as 'x'.*fp32 \(1\).*\(2,\)"):
        evaluator({"x": np.zeros(2)})
    with pytest.raises(BrokenArtifact, match=r"(?s)what it is fed as 'z'.*None"):
        evaluator({"x": np.zeros(1), "z": np.zeros(1)})
    with pytest.raises(BrokenArtifact, match="needs its input 'x'"):
        evaluator({})


def _image_program(kinds: list[str], *, read_twice: bool = False) -> Program:
    program = chain([(kind, 2.0) for kind in kinds], "fp32")
    first = Operation("relu", {"x": "x"}, (("other", TensorType("fp32", (1,))),))
    return Program(
        program.opset,
        program.inputs,
        program.outputs,
        (*program.operations, *([first] * read_twice)),
        program.constants,
    )


def test_the_network_is_what_stands_behind_one_scale_and_one_bias() -> None:
    assert behind_preprocessing(_image_program(["mul", "add", "mul"]), "x") == "t1"


@pytest.mark.parametrize(
    ("program", "got"),
    [
        (_image_program(["add", "mul"]), "add"),
        (_image_program(["mul", "sub"]), "sub"),
        (_image_program(["mul"]), "nothing that reads it"),
        (_image_program(["mul", "add"], read_twice=True), "mul, relu"),
    ],
    ids=["bias first", "no bias", "scale alone", "read twice"],
)
def test_an_image_input_that_is_normalized_otherwise_is_refused(program: Program, got: str) -> None:
    with pytest.raises(BrokenArtifact, match="the image input 'x' is not normalized as an image input is") as caught:
        behind_preprocessing(program, "x")
    assert caught.value.got == got
