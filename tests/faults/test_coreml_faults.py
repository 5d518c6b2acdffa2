"""Faults planted in saved Core ML packages. Each must be rejected, with exit 1, at the stage that has it.

A fault is data (where it is planted, which gate has to see it and which others may) and a function that spoils the
package on disk. Magnitudes and places are drawn at random from a seed that the test's name shows.
"""

import json
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from efficientvit.preprocess import Preprocessing
from efficientvit.spec import MODELS
from export import cli, pipeline
from export.coreml_options import CoreMlOptions
from export.coreml_package import MODEL, write_model
from export.outcome import Exit, Outcome
from runtimes.artifact import Dtype, digest
from runtimes.base import Evidence
from runtimes.mil_program import load_model
from runtimes.ports import LABEL, METADATA_PREFIX, OUTPUT, PROBABILITIES
from validation.gates import Gate, GateResult
from validation.golden import GoldenSet
from validation.golden_synthetic import synthetic
from validation.verdict import Rejected, Verdict

SIZE = 128  # as conftest.py exports it

FULL = bool(os.environ.get("VIT_EXPORT_FULL"))
"""With VIT_EXPORT_FULL=1 every fault is planted from five seeds, and the healthy matrix is the whole family's."""

WEIGHTS = MODEL.parent / "weights" / "weight.bin"
ALIGNMENT = 64
RECORD = struct.Struct("<IIQQQ")  # as runtimes/mil_weights.py describes it
DTYPES = {1: "<f2", 2: "<f4", 3: "u1", 4: "i1"}
FLOAT16, FLOAT32, INT8 = 10, 11, 21  # MIL.proto's DataType

Rng = np.random.Generator
Array = NDArray[Any]


class Package:
    """A saved package, opened to be spoilt. `save` writes it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = load_model(path)
        self.function = self.model.mlProgram.functions["main"]
        self.block = self.function.block_specializations[self.function.opset]
        self.weights = bytearray((path / WEIGHTS).read_bytes())

    def save(self) -> None:
        write_model(self.path, self.model)
        (self.path / WEIGHTS).write_bytes(self.weights)

    def kind(self, *kinds: str) -> list[Any]:
        """Operations of these kinds."""
        return [operation for operation in self.block.operations if operation.type in kinds]

    def maker(self, name: str) -> Any:
        """The operation that makes this value."""
        return next(o for o in self.block.operations if any(output.name == name for output in o.outputs))

    def makers(self) -> dict[str, Any]:
        """The same for every value: looking them up one by one takes long."""
        return {output.name: o for o in self.block.operations for output in o.outputs}

    def weighted(self, ending: str, kinds: Sequence[str] = ("conv",)) -> list[Any]:
        """Operations whose weight's name, without what says how it is stored, ends like this."""
        return [o for o in self.kind(*kinds) if ending in given(o, "weight")]

    def value(self, name: str) -> Any:
        """What a constant holds, as the protobuf has it."""
        return self.maker(name).attributes["val"]

    def blob(self, value: Any) -> "Blob":
        return Blob(self.weights, value.blobFileValue.offset)

    def blobs(self, *, floating: bool = True) -> dict[str, "Blob"]:
        """By name, the constants that lie in the weights' file as they are."""
        stored = {
            o.outputs[0].name: self.blob(o.attributes["val"])
            for o in self.kind("const")
            if o.attributes["val"].WhichOneof("value") == "blobFileValue"
        }
        return {name: blob for name, blob in stored.items() if not floating or blob.dtype in (1, 2)}

    def rewire(self, old: str, new: str, but: Sequence[Any] = ()) -> None:
        """Let everything that reads `old` read `new`, but these operations."""
        for operation in self.block.operations:
            if not any(operation is kept for kept in but):
                for argument in operation.inputs.values():
                    for binding in argument.arguments:
                        if binding.name == old:
                            binding.name = new

    def hoist(self, *constants: str) -> None:
        """Define these before everything else, so that anything may read them."""
        for name in constants:
            constant = self.maker(name)
            copy = type(constant)()
            copy.CopyFrom(constant)
            self.block.operations.remove(constant)
            self.block.operations.insert(0, copy)

    def drop(self, operation: Any, instead: str) -> None:
        """Take an operation out; its readers read this in its place."""
        self.rewire(operation.outputs[0].name, instead)
        self.block.operations.remove(operation)

    def insert(self, after: Any, kind: str, name: str, **inputs: str) -> Any:
        """A new operation behind `after`, of the type that the latter has."""
        made = type(after)(type=kind)
        for key, value in inputs.items():
            made.inputs[key].arguments.add(name=value)
        made.outputs.add(name=name).type.CopyFrom(after.outputs[0].type)
        at = next(i for i, o in enumerate(self.block.operations) if o.outputs[0].name == after.outputs[0].name)
        self.block.operations.insert(at + 1, made)
        return self.block.operations[at + 1]

    def append(self, values: Array, dtype: int) -> int:
        """A new blob; its offset."""
        offset = -(-len(self.weights) // ALIGNMENT) * ALIGNMENT
        self.weights.extend(bytes(offset - len(self.weights)))
        data = values.tobytes()
        self.weights.extend(RECORD.pack(0xDEADBEEF, dtype, len(data), offset + ALIGNMENT, 0))
        self.weights.extend(bytes(offset + ALIGNMENT - len(self.weights)) + data)
        struct.pack_into("<I", self.weights, 0, struct.unpack_from("<I", self.weights)[0] + 1)
        return offset


class Blob:
    """One tensor's record and data in the weights' file."""

    def __init__(self, file: bytearray, record: int) -> None:
        self._file = file
        self.record = record
        _, self.dtype, self.size, self.start, _ = RECORD.unpack_from(file, record)

    @property
    def values(self) -> Array:
        return np.frombuffer(bytes(self._file[self.start : self.start + self.size]), DTYPES[self.dtype]).copy()

    @values.setter
    def values(self, values: Array) -> None:
        data = values.astype(DTYPES[self.dtype]).tobytes()
        assert len(data) == self.size
        self._file[self.start : self.start + self.size] = data


def given(operation: Any, key: str) -> str:
    """The name of what an operation is given as `key`."""
    name: str = operation.inputs[key].arguments[0].name
    return name


def names(operation: Any) -> list[str]:
    return [binding.name for argument in operation.inputs.values() for binding in argument.arguments]


def shape(output: Any) -> tuple[int, ...]:
    return tuple(dimension.constant.size for dimension in output.type.tensorType.dimensions)


def giving(package: Package, operation: Any, key: str, *values: Any) -> None:
    """Other values of a constant operand, for this operation alone: others may share the constant."""
    argument = operation.inputs[key].arguments[0]
    value = type(argument.value)()
    value.CopyFrom(package.value(argument.name))
    tensor = value.immediateValue.tensor
    getattr(tensor, tensor.WhichOneof("value")).values[:] = values
    for dimension in value.type.tensorType.dimensions:
        dimension.constant.size = len(values)
    argument.value.CopyFrom(value)


def pick(rng: Rng, items: Sequence[Any]) -> Any:
    assert items, "the fault has nothing to be planted in"
    return items[int(rng.integers(len(items)))]


def next_up(values: Array, i: int) -> None:
    """A unit in the last place more."""
    values[i] = np.nextafter(values[i], values.dtype.type(np.inf))


# --- the bytes of the weights -----------------------------------------------------------------------------------------


def last_bit(package: Package, rng: Rng) -> None:
    """One weight off by a unit in the last place."""
    blob = pick(rng, [blob for name, blob in package.blobs().items() if "weight" in name])
    values = blob.values
    next_up(values, int(rng.integers(values.size)))
    blob.values = values


def flipped_byte(package: Package, rng: Rng) -> None:
    """A bit anywhere in the data of a tensor."""
    blob = pick(rng, list(package.blobs().values()))
    package.weights[blob.start + int(rng.integers(blob.size))] ^= 1 << int(rng.integers(8))


def subnormals_flushed(package: Package, rng: Rng) -> None:
    """Small fp16 weights flushed to zero, as some converters do."""
    del rng
    changed = 0
    for blob in package.blobs().values():
        values = blob.values
        small = (np.abs(values) < 2.0**-12) & (values != 0)
        changed += int(small.sum())
        values[small] = 0
        blob.values = values
    assert changed


def scaled_weight(package: Package, rng: Rng) -> None:
    """A weight tensor off by a thousandth to two hundredths."""
    blob = pick(rng, [blob for name, blob in package.blobs().items() if "expand_weight" in name])
    blob.values = blob.values * (1 + rng.uniform(0.001, 0.02))


def zeroed_bias(package: Package, rng: Rng) -> None:
    """A convolution without its bias."""
    blob = pick(rng, [blob for name, blob in package.blobs().items() if "project_bias" in name])
    blob.values = blob.values * 0


def _two_heads(package: Package, rng: Rng) -> tuple[str, str]:
    """The biases of two heads of one attention."""
    found = sorted(name for name in package.blobs() if "mixer" in name and "_bias_0_" in name and "_q_" not in name)
    first = pick(rng, [name for name in found if "_v_" not in name])
    return first, first.replace("_bias_0_", f"_bias_{rng.integers(1, 4)}_")


def swapped_offsets(package: Package, rng: Rng) -> None:
    """Two heads' attention biases by each other's offset in the protobuf."""
    one, other = (package.value(name).blobFileValue for name in _two_heads(package, rng))
    one.offset, other.offset = other.offset, one.offset


def swapped_bytes(package: Package, rng: Rng) -> None:
    """The same by the bytes in the weights' file."""
    one, other = (package.blobs()[name] for name in _two_heads(package, rng))
    one.values, other.values = other.values, one.values


def swapped_names(package: Package, rng: Rng) -> None:
    """The same by the wires: constants and names are right, only the graph is wrong."""
    one, other = _two_heads(package, rng)
    package.hoist(one, other)
    package.rewire(one, "held")
    package.rewire(other, one)
    package.rewire("held", other)


def _recorded(package: Package, rng: Rng, **changed: int) -> None:
    """A record with other contents."""
    blob = pick(rng, list(package.blobs().values()))
    fields = dict(
        zip(
            ("sentinel", "dtype", "size", "start", "padding"),
            RECORD.unpack_from(package.weights, blob.record),
            strict=True,
        )
    )
    for key, by in changed.items():
        fields[key] += by
    RECORD.pack_into(package.weights, blob.record, *fields.values())


def broken_sentinel(package: Package, rng: Rng) -> None:
    _recorded(package, rng, sentinel=-int(rng.integers(1, 256)))


def other_dtype(package: Package, rng: Rng) -> None:
    """fp16 data declared fp32."""
    _recorded(package, rng, dtype=1)


def other_size(package: Package, rng: Rng) -> None:
    _recorded(package, rng, size=-2)


def shifted_data(package: Package, rng: Rng) -> None:
    """A record that leads 64 bytes too far, within the file still."""
    name = pick(rng, [name for name, blob in package.blobs().items() if "stem" in name and "weight" in name])
    blob = package.blobs()[name]
    sentinel, dtype, size, start, padding = RECORD.unpack_from(package.weights, blob.record)
    RECORD.pack_into(package.weights, blob.record, sentinel, dtype, size, start + ALIGNMENT, padding)


def shifted_offset(package: Package, rng: Rng) -> None:
    """An offset in the protobuf that leads to no record."""
    value = package.value(pick(rng, list(package.blobs())))
    value.blobFileValue.offset += ALIGNMENT


def other_weights_file(package: Package, rng: Rng) -> None:
    """Weights that lie outside of the package, where a device won't find them."""
    value = package.value(pick(rng, list(package.blobs())))
    elsewhere = package.path.parent / "elsewhere.bin"
    elsewhere.write_bytes(package.weights)
    value.blobFileValue.fileName = "@model_path/../../../elsewhere.bin"


# --- the files --------------------------------------------------------------------------------------------------------


def truncated_weights(path: Path, rng: Rng) -> None:
    file = path / WEIGHTS
    size = file.stat().st_size
    os.truncate(file, int(size * rng.uniform(0.1, 0.95)))


def missing_weights(path: Path, rng: Rng) -> None:
    del rng
    (path / WEIGHTS).unlink()


def truncated_model(path: Path, rng: Rng) -> None:
    file = path / MODEL
    os.truncate(file, int(file.stat().st_size * rng.uniform(0.01, 0.99)))


def missing_manifest(path: Path, rng: Rng) -> None:
    del rng
    (path / "Manifest.json").unlink()


def _renamed_root(path: Path, to: str) -> None:
    file = path / "Manifest.json"
    manifest = json.loads(file.read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = to
    file.write_text(json.dumps(manifest))


def manifest_of_another_root(path: Path, rng: Rng) -> None:
    """A manifest that names the weights as the model."""
    del rng
    file = path / "Manifest.json"
    manifest = json.loads(file.read_text())
    root = manifest["rootModelIdentifier"]
    manifest["rootModelIdentifier"] = next(key for key in manifest["itemInfoEntries"] if key != root)
    file.write_text(json.dumps(manifest))


def manifest_of_nothing(path: Path, rng: Rng) -> None:
    """A manifest that names a file that isn't there."""
    del rng
    _renamed_root(path, "com.apple.CoreML/other.mlmodel")


def model_outside(path: Path, rng: Rng) -> None:
    """A manifest that names a healthy model beside the package: an app that bundles the package lacks it."""
    del rng
    shutil.move(path / "Data" / "com.apple.CoreML", path.parent / "com.apple.CoreML")
    _renamed_root(path, "../../com.apple.CoreML/model.mlmodel")


def second_model(path: Path, rng: Rng) -> None:
    """A manifest that names a copy of the model where no weights lie beside it."""
    del rng
    copy = path / "Data" / "copy" / "model.mlmodel"
    copy.parent.mkdir()
    shutil.copyfile(path / MODEL, copy)
    _renamed_root(path, "copy/model.mlmodel")


# --- the graph --------------------------------------------------------------------------------------------------------


def _softmaxes(package: Package) -> list[Any]:
    """Those of the attention."""
    return [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 3]


def softmax_axis(package: Package, rng: Rng) -> None:
    """An attention normalised over the queries: the sizes are equal, so nothing complains."""
    giving(package, pick(rng, _softmaxes(package)), "axis", 2)


def _of_heads(package: Package, kind: str) -> list[Any]:
    """Splits into heads and concatenations of them."""
    key, parts = {"split": ("outputs", 4), "concat": ("values", 4)}[kind]
    found = [(o, list(o.outputs) if key == "outputs" else o.inputs[key].arguments) for o in package.kind(kind)]
    return [o for o, members in found if len(members) == parts and shape(o.outputs[0])[2] in (2, 4, 7)]


def permuted_heads(package: Package, rng: Rng) -> None:
    """A concatenation that joins the heads, or the windows, in another order."""
    arguments = pick(rng, _of_heads(package, "concat")).inputs["values"].arguments
    order = [binding.name for binding in arguments]
    for binding, name in zip(arguments, [*order[1:], order[0]], strict=True):
        binding.name = name


def swapped_split(package: Package, rng: Rng) -> None:
    """A split whose outputs change places."""
    outputs = pick(rng, _of_heads(package, "split")).outputs
    first, second = rng.choice(len(outputs), 2, replace=False)
    outputs[int(first)].name, outputs[int(second)].name = outputs[int(second)].name, outputs[int(first)].name


def concat_axis(package: Package, rng: Rng) -> None:
    """Heads joined along another axis than the channels: the shape is not what the file declares."""
    giving(package, pick(rng, _of_heads(package, "concat")), "axis", int(rng.integers(2, 4)))


def transposed_windows(package: Package, rng: Rng) -> None:
    """Windows put back column by column, the declared shapes changed along: nothing contradicts."""
    del rng
    rows = [o for o in package.kind("concat") if shape(o.outputs[0])[2:] == (7, 14)]
    (whole,) = [o for o in package.kind("concat") if shape(o.outputs[0])[2:] == (14, 14)]
    assert len(rows) == 2
    for row in rows:
        giving(package, row, "axis", 2)
        row.outputs[0].type.tensorType.dimensions[2].constant.size = 14
        row.outputs[0].type.tensorType.dimensions[3].constant.size = 7
    giving(package, whole, "axis", 3)


def interleaved(package: Package, rng: Rng) -> None:
    """Heads joined channel by channel in turn."""
    giving(package, pick(rng, _of_heads(package, "concat")), "interleave", True)


def stripped_padding(package: Package, rng: Rng) -> None:
    """A depthwise convolution padded on one side only."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "pad", 2, 0, 2, 0)


def transposed_padding(package: Package, rng: Rng) -> None:
    """A window's padding before the grid in place of after it."""
    (pad,) = package.kind("pad")
    del rng
    before = [0, 0, 0, 0, 6, 0, 6, 0]
    giving(package, pad, "pad", *before)


def padded_with_ones(package: Package, rng: Rng) -> None:
    """A window padded with something else than zeros."""
    (pad,) = package.kind("pad")
    value = package.value(given(pad, "constant_val")).immediateValue.tensor
    value.bytes.values = np.array(rng.uniform(0.01, 1), np.float16).tobytes()


def shifted_slice(package: Package, rng: Rng) -> None:
    """What was padded is cut off at the wrong end."""
    operation = pick(rng, package.kind("slice_by_index"))
    shorter = [i for i, size in enumerate(shape(operation.outputs[0])) if size == 8 and i > 1]
    axis = shorter[0] if operation is package.kind("slice_by_index")[0] else shorter[-1]
    begin = [0, 0, 0, 0]
    end = list(shape(package.maker(given(operation, "x")).outputs[0]))
    begin[axis], end[axis] = 6, 14
    giving(package, operation, "begin", *begin)
    giving(package, operation, "end", *end)


def dilated(package: Package, rng: Rng) -> None:
    """A depthwise kernel spread out, padded so that the shape is kept."""
    operation = pick(rng, package.weighted("depthwise2_weight"))
    giving(package, operation, "dilations", 2, 2)
    giving(package, operation, "pad", 2, 2, 2, 2)


def other_strides(package: Package, rng: Rng) -> None:
    """The shape is not what the file declares."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "strides", 2, 2)


def other_groups(package: Package, rng: Rng) -> None:
    """Groups that the weight's shape does not fit."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "groups", 1)


def transposed_products(package: Package, rng: Rng) -> None:
    """q kT in place of kT q, where there are as many tokens as dimensions of a key."""
    square = [o for o in package.kind("matmul") if shape(o.outputs[0])[1:] == (16, 16)]
    operation = pick(rng, [o for o in square if _queried(package, o)])
    giving(package, operation, "transpose_x", False)
    giving(package, operation, "transpose_y", True)


def _queried(package: Package, product: Any) -> bool:
    """A product of keys and queries."""
    transposed: bool = package.value(given(product, "transpose_x")).immediateValue.tensor.bools.values[0]
    return transposed


def transposed_scores(package: Package, rng: Rng) -> None:
    """The values taken by the transposed matrix of scores."""
    product = pick(rng, [o for o in package.kind("matmul") if not _queried(package, o)])
    giving(package, product, "transpose_y", True)


def _large(package: Package) -> list[Any]:
    """The ReLUs that see large values: not those of the gates and the attention."""
    makers = package.makers()
    found = [(o, makers[given(o, "x")]) for o in package.kind("relu")]
    return [
        o
        for o, conv in found
        if conv.type == "conv" and any(part in given(conv, "weight") for part in ("stem", "expand", "merge_depthwise"))
    ]


def relu6(package: Package, rng: Rng) -> None:
    """A ReLU that clips at 6."""
    pick(rng, _large(package)).type = "relu6"


def sigmoid_for_relu(package: Package, rng: Rng) -> None:
    """Another activation, of a kind that the model has elsewhere."""
    pick(rng, _large(package)).type = "sigmoid"


def dropped_relu(package: Package, rng: Rng) -> None:
    operation = pick(rng, _large(package))
    package.drop(operation, given(operation, "x"))


def dropped_residual(package: Package, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    branches = {o.outputs[0].name for o in package.weighted("project_weight")}
    operation = pick(rng, [o for o in package.kind("add") if given(o, "y") in branches])
    package.drop(operation, given(operation, "y"))


def dropped_cascade(package: Package, rng: Rng) -> None:
    """A head that is not given what the head before it found."""
    parts = {output.name for o in package.kind("split") for output in o.outputs}
    cascaded = [o for o in package.kind("add") if given(o, "x") in parts]
    operation = pick(rng, cascaded)
    package.drop(operation, given(operation, "x"))


def added_gate(package: Package, rng: Rng) -> None:
    """A squeeze-excite gate that adds where it should multiply."""
    gates = {o.outputs[0].name for o in package.kind("sigmoid")}
    pick(rng, [o for o in package.kind("mul") if given(o, "y") in gates]).type = "add"


def mean_over_rows(package: Package, rng: Rng) -> None:
    """A mean over one axis less: the shape is not what the file declares."""
    giving(package, pick(rng, package.kind("reduce_mean")), "axes", int(rng.integers(2, 4)))


def squeezed_mean(package: Package, rng: Rng) -> None:
    """A mean that drops its axes: the shape is not what the file declares."""
    giving(package, pick(rng, package.kind("reduce_mean")), "keep_dims", False)


def crossed_wires(package: Package, rng: Rng) -> None:
    """Two convolutions of one shape given each other's bias: every constant is as it should be."""
    convolutions = [o for o in package.kind("conv") if "bias" in o.inputs]

    shapes = {name: shape(maker.outputs[0]) for name, maker in package.makers().items()}
    weights = [shapes[given(o, "weight")] for o in convolutions]
    pairs = [
        (one, other)
        for i, one in enumerate(convolutions)
        for j, other in enumerate(convolutions[:i])
        if weights[i] == weights[j]
    ]
    one, other = (operation.inputs["bias"].arguments[0] for operation in pick(rng, pairs))
    package.hoist(one.name, other.name)
    one.name, other.name = other.name, one.name


def other_reshape(package: Package, rng: Rng) -> None:
    """Tokens and channels in each other's order: as many values, another meaning; the shapes declared along."""
    convolved = {o.outputs[0].name for o in package.kind("conv")}
    square = [o for o in package.kind("reshape") if shape(o.outputs[0])[1:] == (16, 16)]
    operation = pick(rng, [o for o in square if given(o, "x") in convolved])
    output = operation.outputs[0].name
    turned = package.insert(operation, "transpose", f"{output}_turned", x=output)
    turned.inputs["perm"].arguments.add().value.CopyFrom(_ints(0, 2, 1))
    package.rewire(output, f"{output}_turned", but=[turned])


def _ints(*values: int) -> Any:
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType, value.type.tensorType.rank = MIL_pb2.DataType.Value("INT32"), 1
    value.type.tensorType.dimensions.add().constant.size = len(values)
    value.immediateValue.tensor.ints.values[:] = values
    return value


def sham(package: Package, rng: Rng) -> None:
    """The package that ignores its image: every pixel is scaled to nothing, by a constant of no floating point."""
    del rng
    first = package.maker("image__biased__")
    nothing = package.insert(first, "relu", "nothing", x="image__minus__")
    minus = package.insert(first, "mul", "image__minus__", x="image__biased__", y=given(first, "y"))
    package.rewire("image__biased__", "nothing", but=[minus])
    assert nothing.outputs[0].name == "nothing"


def probabilities_for_logits(package: Package, rng: Rng) -> None:
    """Probabilities in place of logits: the winners are the same."""
    del rng
    (softmax,) = [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 2]
    package.maker(OUTPUT).inputs["x"].arguments[0].name = softmax.outputs[0].name


def stray_constant(package: Package, rng: Rng) -> None:
    """Something added that is far below any rounding."""
    last = package.maker(given(package.maker(OUTPUT), "x"))
    value = np.float16(10 ** rng.uniform(-7, -6))
    added = package.insert(last, "add", "strayed", x=last.outputs[0].name)
    binding = added.inputs["y"].arguments.add().value
    binding.type.tensorType.dataType = FLOAT16
    binding.immediateValue.tensor.bytes.values = value.tobytes()
    package.maker(OUTPUT).inputs["x"].arguments[0].name = "strayed"


def unheard_of(package: Package, rng: Rng) -> None:
    """An operation that nobody here knows."""
    pick(rng, _large(package)).type = "elu"


# --- types ------------------------------------------------------------------------------------------------------------


def _inner(package: Package, rng: Rng) -> Any:
    """An operation on large tensors in the middle of the network."""
    return pick(rng, [o for o in package.kind("conv") if "branch_expand" in given(o, "weight")])


def through_half(package: Package, rng: Rng) -> None:
    """A tensor cast to fp16 and back in a float32 package."""
    operation = _inner(package, rng)
    name = operation.outputs[0].name
    half = package.insert(operation, "cast", f"{name}_half", x=name)
    half.outputs[0].type.tensorType.dataType = FLOAT16
    half.inputs["dtype"].arguments.add().value.CopyFrom(_text("fp16"))
    back = package.insert(half, "cast", f"{name}_back", x=f"{name}_half")
    back.outputs[0].type.tensorType.dataType = FLOAT32
    back.inputs["dtype"].arguments.add().value.CopyFrom(_text("fp32"))
    package.rewire(name, f"{name}_back", but=[half])


def _text(text: str) -> Any:
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType = MIL_pb2.DataType.Value("STRING")
    value.immediateValue.tensor.strings.values.append(text)
    return value


def declared_half(package: Package, rng: Rng) -> None:
    """A tensor of a float32 package declared fp16, with no cast to make it that."""
    _inner(package, rng).outputs[0].type.tensorType.dataType = FLOAT16


def declared_single(package: Package, rng: Rng) -> None:
    """A tensor of an fp16 package declared float32: more exact for whoever believes it, and refused by Core ML."""
    _inner(package, rng).outputs[0].type.tensorType.dataType = FLOAT32


def contradicting_cast(package: Package, rng: Rng) -> None:
    """A cast to fp16 whose result is declared float32."""
    del rng
    giving(package, package.maker(OUTPUT), "dtype", "fp16")


def overflowing(package: Package, rng: Rng) -> None:
    """One layer scaled up and the next scaled down: nothing happens but in fp16, where it is infinite between."""
    ending = pick(rng, ["ffn1_branch", "ffn2_branch"])
    expand = pick(rng, package.weighted(f"{ending}_expand_weight"))
    prefix = given(expand, "weight").partition("_expand_")[0]
    for part, factor in (("expand_weight", 1e4), ("expand_bias", 1e4), ("project_weight", 1e-4)):
        (blob,) = [blob for name, blob in package.blobs().items() if name.startswith(f"{prefix}_{part}")]
        values = blob.values.astype(np.float64) * factor
        assert np.abs(values).max() < 65504
        blob.values = values


# --- the image --------------------------------------------------------------------------------------------------------


def _image_constant(package: Package, name: str) -> Any:
    """The floats that scale or shift the pixels."""
    return package.value(given(package.maker(name), "y")).immediateValue.tensor.floats.values


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def image_scale(package: Package, rng: Rng) -> None:
    """A division by 256."""
    del rng
    _image_constant(package, "image__scaled__")[:] = [1 / 256]


def image_bias(package: Package, rng: Rng) -> None:
    """The means in the order blue, green, red."""
    del rng
    bias = _image_constant(package, "image__biased__")
    bias[:] = list(reversed(bias))


def image_bias_last_bit(package: Package, rng: Rng) -> None:
    """One channel's mean off by a unit in the last place."""
    bias = _image_constant(package, "image__biased__")
    values = np.array(bias, np.float32)
    next_up(values, int(rng.integers(3)))
    bias[:] = values.tolist()


def average_std(package: Package, rng: Rng) -> None:
    """One std for three channels, as guides recommend for a single scale, the first convolution as it was trained."""
    del rng
    _image_constant(package, "image__scaled__")[:] = [1 / (255 * 0.226)]
    _image_constant(package, "image__biased__")[:] = (-MEAN / 0.226).tolist()
    blob = next(blob for name, blob in package.blobs().items() if "stem_conv1_weight" in name)
    blob.values = (blob.values.reshape(-1, 3, 9) * STD.reshape(1, 3, 1)).reshape(-1)


def folded_mean(package: Package, rng: Rng) -> None:
    """The mean in the first convolution's bias in place of the image's: wrong at the border, where zeros are padded."""
    del rng
    (conv,) = package.weighted("stem_conv1_weight")
    weight = package.blobs()[given(conv, "weight")].values.reshape(-1, 3, 9)
    bias = package.value(given(conv, "bias")).immediateValue.tensor.floats.values
    bias[:] = (np.array(bias) - (weight.astype(np.float64) * MEAN.reshape(1, 3, 1)).sum(axis=(1, 2))).tolist()
    _image_constant(package, "image__biased__")[:] = [0, 0, 0]


def normalised_twice(package: Package, rng: Rng) -> None:
    """Scale and bias once more, by the same constants."""
    del rng
    biased, scaled = package.maker("image__biased__"), package.maker("image__scaled__")
    again = package.insert(biased, "mul", "scaled_again", x="image__biased__", y=given(scaled, "y"))
    last = package.insert(again, "add", "biased_again", x="scaled_again", y=given(biased, "y"))
    package.rewire("image__biased__", "biased_again", but=[again])
    assert last.outputs[0].name == "biased_again"


def normalised_never(package: Package, rng: Rng) -> None:
    """The pixels as they are."""
    del rng
    for name in ("image__biased__", "image__scaled__"):
        operation = package.maker(name)
        package.drop(operation, given(operation, "x"))


def bgr_layout(package: Package, rng: Rng) -> None:
    """Blue first."""
    del rng
    image = package.model.description.input[0].type.imageType
    image.colorSpace = image.ColorSpace.Value("BGR")


def flexible_image(package: Package, rng: Rng) -> None:
    """An app is told that any size will do."""
    size = package.model.description.input[0].type.imageType.imageSizeRange
    size.widthRange.lowerBound = size.heightRange.lowerBound = int(rng.integers(32, SIZE))
    size.widthRange.upperBound = size.heightRange.upperBound = -1


# --- labels -----------------------------------------------------------------------------------------------------------


def _labels(package: Package) -> Any:
    (classify,) = package.kind("classify")
    return classify.inputs["classes"].arguments[0].value.immediateValue.list.values


def _label(entry: Any) -> Any:
    return entry.immediateValue.tensor.strings.values


def swapped_labels(package: Package, rng: Rng) -> None:
    labels = _labels(package)
    first, second = (_label(labels[int(i)]) for i in rng.choice(len(labels), 2, replace=False))
    first[0], second[0] = second[0], first[0]


def repeated_label(package: Package, rng: Rng) -> None:
    """Two classes of one name: an app cannot tell their probabilities apart."""
    labels = _labels(package)
    first, second = (_label(labels[int(i)]) for i in rng.choice(len(labels), 2, replace=False))
    first[0] = second[0]


def missing_label(package: Package, rng: Rng) -> None:
    labels = _labels(package)
    del labels[int(rng.integers(len(labels)))]


def exchanged_names(package: Package, rng: Rng) -> None:
    """Which output is the label and which the probabilities, told the wrong way round."""
    del rng
    description = package.model.description
    description.predictedFeatureName, description.predictedProbabilitiesName = PROBABILITIES, LABEL


def renamed_label(package: Package, rng: Rng) -> None:
    """An app that reads `classLabel` finds nothing of that name."""
    del rng
    _renamed(package, LABEL, "label")
    package.model.description.predictedFeatureName = "label"


def _probable(package: Package) -> Any:
    """The softmax whose result the label is taken from."""
    (softmax,) = [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 2]
    return softmax


def probabilities_over_the_batch(package: Package, rng: Rng) -> None:
    """A softmax over the one image: every class is certain."""
    del rng
    giving(package, _probable(package), "axis", 0)


def doubled_logits(package: Package, rng: Rng) -> None:
    """Probabilities of twice the logits: the label is right, and too certain."""
    del rng
    softmax = _probable(package)
    name = given(softmax, "x")
    doubled = package.insert(package.maker(name), "add", "doubled", x=name, y=name)
    _probable(package).inputs["x"].arguments[0].name = doubled.outputs[0].name


def cut_logits(package: Package, rng: Rng) -> None:
    """Probabilities of the logits with the negative ones cut off: the label is right."""
    del rng
    softmax = _probable(package)
    name = given(softmax, "x")
    cut = package.insert(package.maker(name), "relu", "cut", x=name)
    _probable(package).inputs["x"].arguments[0].name = cut.outputs[0].name


def softmax_twice(package: Package, rng: Rng) -> None:
    """Probabilities of probabilities: the label is right, and hardly more probable than any other."""
    del rng
    softmax = _probable(package)
    twice = package.insert(softmax, "softmax", "twice", x=softmax.outputs[0].name, axis=given(softmax, "axis"))
    package.rewire(softmax.outputs[0].name, "twice", but=[twice])


def sigmoid_probabilities(package: Package, rng: Rng) -> None:
    """Each class by itself: the label is right, the probabilities are none of one another."""
    del rng
    softmax = _probable(package)
    softmax.type = "sigmoid"
    del softmax.inputs["axis"]


def label_of_logits(package: Package, rng: Rng) -> None:
    """Logits in place of probabilities: the label is right."""
    del rng
    (classify,) = package.kind("classify")
    classify.inputs["probabilities"].arguments[0].name = OUTPUT


# --- what the package says --------------------------------------------------------------------------------------------


def other_digest(package: Package, rng: Rng) -> None:
    """Another digest of the weights, by one digit."""
    said = package.model.description.metadata.userDefined
    key = pick(rng, sorted(key for key in said if key.endswith("-sha256")))
    i, digest = int(rng.integers(64)), said[key]
    said[key] = f"{digest[:i]}{(int(digest[i], 16) + 1) % 16:x}{digest[i + 1 :]}"


def missing_key(package: Package, rng: Rng) -> None:
    said = package.model.description.metadata.userDefined
    del said[pick(rng, sorted(key for key in said if key.startswith(METADATA_PREFIX)))]


def additional_key(package: Package, rng: Rng) -> None:
    """Something said in our name that we did not say."""
    del rng
    package.model.description.metadata.userDefined[f"{METADATA_PREFIX}accuracy"] = "99.9%"


def other_field(package: Package, rng: Rng) -> None:
    """Author, licence, version or description."""
    metadata = package.model.description.metadata
    name = pick(rng, ["author", "license", "versionString", "shortDescription"])
    setattr(metadata, name, f"{getattr(metadata, name)}.")


def _renamed(package: Package, old: str, new: str, *, described: bool = True) -> None:
    for output in package.maker(old).outputs:
        if output.name == old:
            output.name = new
    package.rewire(old, new)
    package.block.outputs[:] = [new if name == old else name for name in package.block.outputs]
    if described:
        for output in package.model.description.output:
            output.name = new if output.name == old else output.name


def renamed_output(package: Package, rng: Rng) -> None:
    """An app that reads `logits` finds nothing of that name; the numbers are right."""
    del rng
    _renamed(package, OUTPUT, "scores")


def renamed_inside(package: Package, rng: Rng) -> None:
    """An output that the program calls otherwise than the description."""
    del rng
    _renamed(package, OUTPUT, "scores", described=False)


def unreturned(package: Package, rng: Rng) -> None:
    """An output that the program computes and does not return."""
    del rng
    package.block.outputs.remove(OUTPUT)


def additional_output(package: Package, rng: Rng) -> None:
    """One output more, described as it is."""
    _returned(package, rng)
    output = package.model.description.output.add(name=package.block.outputs[-1])
    array = output.type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT16")
    array.shape[:] = shape(package.maker(output.name).outputs[0])


def _returned(package: Package, rng: Rng) -> None:
    package.block.outputs.append(_inner(package, rng).outputs[0].name)


def undescribed_output(package: Package, rng: Rng) -> None:
    """One output more that the description is silent about."""
    _returned(package, rng)


def undescribed_input(package: Package, rng: Rng) -> None:
    """One input more that the description is silent about: nobody can feed it."""
    del rng
    package.function.inputs.add(name="more").type.CopyFrom(package.function.inputs[0].type)


def half_input(package: Package, rng: Rng) -> None:
    """A program that takes fp16 where the description's image becomes float32."""
    del rng
    package.function.inputs[0].type.tensorType.dataType = FLOAT16


def tensor_input(package: Package, rng: Rng) -> None:
    """A float32 array in place of an image."""
    del rng
    array = package.model.description.input[0].type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT32")
    array.shape[:] = (1, 3, SIZE, SIZE)


def half_logits(package: Package, rng: Rng) -> None:
    """Logits in fp16, described as float32: the last cast is lost."""
    del rng
    cast = package.maker(OUTPUT)
    name = given(cast, "x")
    package.block.operations.remove(cast)
    package.maker(name).outputs[0].name = OUTPUT
    package.rewire(name, OUTPUT)


def half_logits_described(package: Package, rng: Rng) -> None:
    """The same, and an app is told."""
    half_logits(package, rng)
    array = package.model.description.output[0].type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT16")


def newer_format(package: Package, rng: Rng) -> None:
    """A version of the format that older devices refuse, though nothing in the program needs it."""
    package.model.specificationVersion += int(rng.integers(1, 3))


# --- compressed weights -----------------------------------------------------------------------------------------------


def _compressed(package: Package, rng: Rng) -> Any:
    return pick(rng, [o for o in package.block.operations if o.type.startswith("constexpr_")])


def quantisation_scale(package: Package, rng: Rng) -> None:
    """The scale of one output channel off by a unit in the last place."""
    blob = package.blob(_compressed(package, rng).attributes["scale"])
    values = blob.values
    next_up(values, int(rng.integers(values.size)))
    blob.values = values


def zero_point(package: Package, rng: Rng) -> None:
    """The zero point of one output channel off by one."""
    blob = package.blob(_compressed(package, rng).attributes["zero_point"])
    values = blob.values
    values[int(rng.integers(values.size))] += 1
    blob.values = values


def quantised_value(package: Package, rng: Rng) -> None:
    """One of the integers off by one."""
    blob = package.blob(_compressed(package, rng).attributes["quantized_data"])
    values = blob.values
    values[int(rng.integers(values.size))] ^= 1
    blob.values = values


def quantisation_axis(package: Package, rng: Rng) -> None:
    """Scales for the input channels, where there are as many."""
    square = [o for o in package.kind("constexpr_affine_dequantize") if len(set(shape(o.outputs[0])[:2])) == 1]
    pick(rng, square).attributes["axis"].immediateValue.tensor.ints.values[:] = [1]


def palette_entry(package: Package, rng: Rng) -> None:
    """One value of a palette off by a unit in the last place."""
    blob = package.blob(_compressed(package, rng).attributes["lut"])
    values = blob.values
    next_up(values, int(rng.integers(values.size)))
    blob.values = values


def palette_index(package: Package, rng: Rng) -> None:
    """One bit of one weight's index."""
    blob = package.blob(_compressed(package, rng).attributes["indices"])
    package.weights[blob.start + int(rng.integers(blob.size))] ^= 1 << int(rng.integers(8))


def swapped_palettes(package: Package, rng: Rng) -> None:
    """Two tensors with each other's palette."""
    compressed = package.kind("constexpr_lut_to_dense")
    first, second = rng.choice(len(compressed), 2, replace=False)
    one, other = (compressed[int(i)].attributes["lut"].blobFileValue for i in (first, second))
    one.offset, other.offset = other.offset, one.offset


def scaled_palette(package: Package, rng: Rng) -> None:
    """A whole palette off by a ten-thousandth to a hundredth."""
    blob = package.blob(_compressed(package, rng).attributes["lut"])
    blob.values = blob.values * (1 + 10 ** rng.uniform(-3.5, -2))


def uncompressed_weight(package: Package, rng: Rng) -> None:
    """One weight stored as the values that it decodes to: nothing changes but the size that was promised."""
    operation = _compressed(package, rng)
    table = package.blob(operation.attributes["lut"]).values
    bits = int(np.log2(table.size))
    packed = np.unpackbits(package.blob(operation.attributes["indices"]).values, bitorder="little")
    count = int(np.prod(shape(operation.outputs[0])))
    indices = packed[: bits * count].reshape(count, bits) @ (1 << np.arange(bits))
    offset = package.append(table[indices], 1)
    operation.type = "const"
    for key in ("lut", "indices", "shape"):
        del operation.attributes[key]
    value = operation.attributes["val"]
    value.type.CopyFrom(operation.outputs[0].type)
    value.blobFileValue.fileName, value.blobFileValue.offset = "@model_path/weights/weight.bin", offset


def unasked_palette(package: Package, rng: Rng) -> None:
    """A tensor as indices into a palette that holds each of its values: the same bits, in a form for later devices."""
    name = pick(rng, [name for name, blob in package.blobs().items() if "bias" in name and 128 <= blob.size <= 512])
    values = package.blobs()[name].values
    table, indices = np.unique(values, return_inverse=True)
    table = np.resize(table, 256)
    operation = package.maker(name)
    operation.type = "constexpr_lut_to_dense"
    del operation.attributes["val"]
    _attribute(package, operation, "lut", table, 1, FLOAT16)
    _attribute(package, operation, "indices", indices.astype(np.uint8), 3, 31)
    operation.attributes["shape"].CopyFrom(_ints(values.size))


def _attribute(package: Package, operation: Any, key: str, values: Array, stored: int, dtype: int) -> None:
    value = operation.attributes[key]
    value.type.tensorType.dataType, value.type.tensorType.rank = dtype, 1
    value.type.tensorType.dimensions.add().constant.size = values.size
    value.blobFileValue.fileName = "@model_path/weights/weight.bin"
    value.blobFileValue.offset = package.append(values, stored)


# --- the table --------------------------------------------------------------------------------------------------------

INTERFACE, OPERATORS, CONSTANTS, STRUCTURE, OVERFLOW, PRECISION, LABELS, QUALITY = (
    Gate.INTERFACE, Gate.OPERATORS, Gate.CONSTANTS, Gate.STRUCTURE, Gate.OVERFLOW, Gate.PRECISION, Gate.LABELS,
    Gate.QUALITY,
)  # fmt: skip
NUMBERS = (STRUCTURE, PRECISION, OVERFLOW, QUALITY)


@dataclass(frozen=True)
class Fault:
    """What is planted where, the gate that must see it, and those that may as well. `file`: not by way of `Package`."""

    plant: Callable[[Any, Rng], None]
    gate: Gate
    others: tuple[Gate, ...] = ()
    variant: str = "fp16"
    stage: str = "coreml"
    file: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.plant.__name__}-{self.variant}-{self.stage}"

    def spoil(self, path: Path, rng: Rng) -> None:
        if self.file:
            self.plant(path, rng)
            return
        package = Package(path)
        self.plant(package, rng)
        package.save()


WIRES = (STRUCTURE, PRECISION)

FAULTS = (
    # bytes
    Fault(last_bit, CONSTANTS),
    Fault(flipped_byte, CONSTANTS, (*NUMBERS, LABELS)),
    Fault(scaled_weight, CONSTANTS, NUMBERS),
    Fault(swapped_offsets, CONSTANTS, NUMBERS),
    Fault(swapped_bytes, CONSTANTS, NUMBERS),
    Fault(swapped_names, STRUCTURE, (PRECISION,)),
    Fault(broken_sentinel, INTERFACE),
    Fault(other_dtype, INTERFACE),
    Fault(shifted_offset, INTERFACE),
    Fault(other_weights_file, INTERFACE),
    # files
    Fault(truncated_weights, INTERFACE, file=True),
    Fault(missing_weights, INTERFACE, file=True),
    Fault(truncated_model, INTERFACE, file=True),
    Fault(missing_manifest, INTERFACE, file=True),
    Fault(manifest_of_another_root, INTERFACE, file=True),
    Fault(manifest_of_nothing, INTERFACE, file=True),
    Fault(model_outside, INTERFACE, file=True),
    Fault(second_model, INTERFACE, file=True),
    # graph
    Fault(softmax_axis, STRUCTURE, (PRECISION,)),
    Fault(swapped_split, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(concat_axis, INTERFACE),
    Fault(interleaved, INTERFACE),
    Fault(stripped_padding, STRUCTURE, (PRECISION,)),
    Fault(dilated, STRUCTURE, (PRECISION,)),
    Fault(other_strides, INTERFACE),
    Fault(other_groups, INTERFACE),
    Fault(transposed_products, STRUCTURE, (PRECISION,)),
    Fault(transposed_scores, STRUCTURE, (PRECISION,)),
    Fault(relu6, OPERATORS, (STRUCTURE, PRECISION)),
    Fault(sigmoid_for_relu, STRUCTURE, (PRECISION,)),
    Fault(dropped_relu, STRUCTURE, (PRECISION,)),
    Fault(dropped_residual, STRUCTURE, (PRECISION, QUALITY), "int8", "compress"),
    Fault(mean_over_rows, INTERFACE),
    Fault(squeezed_mean, INTERFACE),
    Fault(sham, STRUCTURE, (PRECISION,)),
    Fault(unheard_of, INTERFACE),
    # types
    Fault(through_half, PRECISION, (), "fp16", "twin"),
    Fault(declared_half, OPERATORS, (PRECISION,), "fp16", "twin"),
    Fault(declared_single, OPERATORS),
    Fault(contradicting_cast, OPERATORS),
    Fault(overflowing, OVERFLOW, (CONSTANTS, STRUCTURE, PRECISION, LABELS)),
    # image
    Fault(image_scale, CONSTANTS, NUMBERS),
    Fault(image_bias, CONSTANTS, NUMBERS, "fp16", "twin"),
    Fault(average_std, CONSTANTS, NUMBERS, "fp16", "twin"),
    Fault(folded_mean, CONSTANTS, NUMBERS, "fp16", "twin"),
    Fault(normalised_twice, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(normalised_never, INTERFACE),
    Fault(bgr_layout, INTERFACE),
    Fault(flexible_image, INTERFACE),
    # labels
    Fault(swapped_labels, INTERFACE),
    Fault(repeated_label, INTERFACE),
    Fault(missing_label, INTERFACE),
    Fault(exchanged_names, INTERFACE),
    Fault(renamed_label, INTERFACE),
    Fault(probabilities_over_the_batch, LABELS),
    Fault(doubled_logits, LABELS, (), "fp16", "twin"),
    Fault(cut_logits, LABELS, (), "fp16", "twin"),
    # what it says
    Fault(other_digest, INTERFACE),
    Fault(missing_key, INTERFACE),
    Fault(additional_key, INTERFACE),
    Fault(other_field, INTERFACE),
    Fault(renamed_output, INTERFACE),
    Fault(renamed_inside, INTERFACE),
    Fault(unreturned, INTERFACE),
    Fault(additional_output, INTERFACE),
    Fault(undescribed_output, INTERFACE),
    Fault(undescribed_input, INTERFACE),
    Fault(half_input, INTERFACE),
    Fault(tensor_input, INTERFACE),
    Fault(half_logits, INTERFACE),
    Fault(half_logits_described, INTERFACE),
    Fault(newer_format, INTERFACE),
    # compressed weights
    Fault(quantisation_scale, CONSTANTS, NUMBERS, "int8", "compress"),
    Fault(zero_point, CONSTANTS, NUMBERS, "int8", "compress"),
    Fault(palette_entry, CONSTANTS, NUMBERS, "palette6", "compress"),
    Fault(palette_index, CONSTANTS, NUMBERS, "palette6", "compress"),
    Fault(swapped_palettes, CONSTANTS, NUMBERS, "palette6", "compress"),
    Fault(uncompressed_weight, OPERATORS, (), "palette6", "compress"),
)

MORE_FAULTS = (
    Fault(last_bit, CONSTANTS, (), "fp16", "twin"),
    Fault(last_bit, CONSTANTS, (), "int8", "compress"),
    Fault(subnormals_flushed, CONSTANTS, NUMBERS),
    Fault(zeroed_bias, CONSTANTS, NUMBERS, "fp16", "twin"),
    Fault(other_size, INTERFACE),
    Fault(shifted_data, CONSTANTS, NUMBERS),
    Fault(truncated_weights, INTERFACE, (), "palette6", "compress", file=True),
    Fault(truncated_model, INTERFACE, (), "fp16", "twin", file=True),
    Fault(permuted_heads, STRUCTURE, (PRECISION,)),
    Fault(transposed_windows, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(transposed_padding, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(padded_with_ones, CONSTANTS, NUMBERS),
    Fault(shifted_slice, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(dropped_cascade, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(added_gate, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(crossed_wires, STRUCTURE, (PRECISION, QUALITY), "palette6", "compress"),
    Fault(other_reshape, STRUCTURE, (PRECISION,), "fp16", "twin"),
    Fault(probabilities_for_logits, STRUCTURE, (PRECISION, LABELS)),
    Fault(stray_constant, CONSTANTS),
    Fault(image_bias_last_bit, CONSTANTS),
    Fault(swapped_labels, INTERFACE, (), "palette6", "compress"),
    Fault(softmax_twice, LABELS, (), "fp16", "twin"),
    Fault(sigmoid_probabilities, LABELS, (), "fp16", "twin"),
    Fault(label_of_logits, LABELS, (), "fp16", "twin"),
    Fault(other_digest, INTERFACE, (), "int8", "compress"),
    Fault(quantised_value, CONSTANTS, NUMBERS, "int8", "compress"),
    Fault(quantisation_axis, CONSTANTS, NUMBERS, "int8", "compress"),
    Fault(scaled_palette, CONSTANTS, NUMBERS, "palette6", "compress"),
    Fault(unasked_palette, OPERATORS),
)
"""Planted with VIT_EXPORT_FULL=1 alone: their like is above."""

SEEDS = range(5 if FULL else 1)


@pytest.fixture
def spoil(spoil: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """As everywhere, but on one image of each kind: three times as fast, and a fault has fewer on which to show."""
    if not FULL:
        monkeypatch.setattr(pipeline, "synthetic", _one_of_each_kind)
    return spoil


def _one_of_each_kind(preprocessing: Preprocessing) -> GoldenSet:
    members = {member.kind: member for member in reversed(synthetic(preprocessing).members)}
    return GoldenSet(tuple(reversed(members.values())), preprocessing)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", (*FAULTS, *MORE_FAULTS) if FULL else FAULTS, ids=str)
def test_planted_in_a_package(fault: Fault, seed: int, run: Callable[..., Outcome]) -> None:
    rng = np.random.default_rng([seed, zlib.crc32(str(fault).encode())])
    outcome = run("coreml", fault.variant, fault.stage, lambda path: fault.spoil(path, rng))
    assert isinstance(outcome.final, Rejected)
    assert outcome.stages[-1].name == fault.stage
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    failed = {gate.gate for gate in outcome.final.report.gates if not gate.passed}
    assert fault.gate in failed
    assert failed <= {fault.gate, *fault.others}
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()


IOS = 15 if FULL else 16  # 15 is the default; at 16 the packages are those that are compressed

IMAGE = CoreMlOptions(ios=IOS)
TENSOR = CoreMlOptions(ios=IOS, input="tensor", labels="none")

VARIANTS = {
    "fp16-image-labels": ("fp16", IMAGE),
    "fp16-tensor-nolabels": ("fp16", TENSOR),
    "fp32": ("fp32", IMAGE),
    "int8": ("fp16", replace(IMAGE, ios=16, weights=Dtype.INT8)),
    "palette8": ("fp16", replace(IMAGE, ios=16, weights=Dtype.PALETTE8)),
    "palette6": ("fp16", replace(IMAGE, ios=16, weights=Dtype.PALETTE6)),
    "palette4": ("fp16", replace(IMAGE, ios=16, weights=Dtype.PALETTE4)),
    "palette8-tensor": ("fp16", replace(TENSOR, ios=16, weights=Dtype.PALETTE8)),
    "palette6-tensor": ("fp16", replace(TENSOR, ios=16, weights=Dtype.PALETTE6)),
}

QUICK = {
    ("m0", 0, 64): ("fp16-image-labels", "fp32", "int8", "palette4"),
    ("m0", 1, 64): ("fp16-tensor-nolabels", "palette8-tensor", "palette6-tensor"),
}
"""Model, seed and size, and the variants: those that are made of the same packages."""

WHOLE = {(model, seed, 224): tuple(VARIANTS)[:7] for model in MODELS for seed in range(5)}

UNTRAINED = ("palette6", "palette6-tensor", "palette4")
"""Few bits leave too little of weights that nobody trained. Quality says so, and it is true; nothing else may."""


@pytest.mark.parametrize(
    ("made", "variant"),
    [
        pytest.param(made, variant, id=f"{'-'.join(map(str, made))}-{variant}")
        for made, variants in (WHOLE if FULL else QUICK).items()
        for variant in variants
    ],
)
def test_healthy_packages_pass(made: tuple[str, int, int], variant: str, export: Callable[..., Outcome]) -> None:
    """No false alarm, whatever the weights were drawn from."""
    outcome = export(made, *VARIANTS[variant])
    assert outcome.error is None
    assert [stage.name for stage in outcome.stages] == [name for name, _ in outcome.job.plan]
    failed = {gate.gate for stage in outcome.stages for gate in _gates(stage.verdict) if not gate.passed}
    if variant in UNTRAINED:
        assert failed <= {QUALITY}
    else:
        assert failed == set()
        assert outcome.code(Evidence.REFERENCE) is Exit.OK


def _gates(verdict: Verdict) -> tuple[GateResult, ...]:
    assert verdict.report is not None
    return verdict.report.gates


def test_opening_and_saving_changes_nothing(run: Callable[..., Outcome]) -> None:
    """What is rejected above is rejected for the fault, and not for having been written again."""
    digests: list[str] = []

    def plant(path: Path) -> None:
        digests.append(digest(path))
        Package(path).save()
        digests.append(digest(path))

    outcome = run("coreml", "fp16", "coreml", plant)
    assert digests[0] == digests[1]
    assert outcome.code(Evidence.REFERENCE) is Exit.OK


@pytest.mark.parametrize("variant", ["int8", "palette6"])
def test_the_unspoilt_package_passes(variant: str, run: Callable[..., Outcome]) -> None:
    assert run("coreml", variant).code(Evidence.REFERENCE) is Exit.OK


def test_the_command_exits_with_1(
    spoil: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a package that cannot be read at all, too."""
    rng = np.random.default_rng(0)
    spoil("coreml", "fp16", "coreml", lambda path: truncated_weights(path, rng))
    command = [
        "vit-export",
        "m0",
        "-t",
        "coreml",
        "--ios",
        "16",
        "--image-size",
        str(SIZE),
        "-w",
        "seeded",
        "--no-time",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    assert "weight.bin" in capsys.readouterr().err
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["m0-128-coreml-fp16-ios16-untrained.rejected"]
