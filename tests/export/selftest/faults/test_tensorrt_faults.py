"""Faults on the way to a TensorRT engine: in the typed ONNX file, and in what TensorRT's importer made of it.

Each must be rejected, with exit 1, at the stage that has it and by a gate that is expected to see it. The importer's
mistakes are planted in the network as it was read, behind a file that is as it should be.
"""

import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from efficientvit.errors import ArtifactChanged, BrokenArtifact
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.weights.source import find_weights
from export.exits import Exit
from export.pipeline import run as pipeline
from export.pipeline.outcome import Outcome
from export.progress import Silent
from export.request.request import Request
from export.selftest.faults.onnx.graph import softmax_axis
from export.selftest.faults.onnx.quantized import (
    clipped_activation,
    coarse_activation,
    operands,
    weight_scale_by_an_ulp,
)
from export.targets.registry import SHARED, TARGETS
from export.targets.target import Job, Make
from export.targets.tensorrt.options import LAYERS, TensorRtOptions
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format, digest
from runtimes.evaluator.program import Constant, Operation, Program, TensorType
from runtimes.precision import Precision
from runtimes.runtime import Evidence
from runtimes.tensorrt import evaluated, reader
from runtimes.tensorrt.evaluated import load_network, typed_onnx
from tests.once import Models, measured_once
from tests.stages import STAGES
from validation.inputs.golden_set import GoldenSet
from validation.inputs.synthetic import synthetic
from validation.reference import model as reference
from validation.verdict import Built, Rejected, VerifiedArtifact

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

SIZE, MODEL, WEIGHTS = 96, "m0", "seeded:1"
FORMS = ("fp32", "fp16", "int8")

Rng = np.random.Generator
Array = NDArray[Any]


@dataclass(frozen=True)
class Chain:
    """The healthy artifact of every stage, by precision and stage."""

    made: dict[tuple[str, str], Artifact]

    def copied(self, key: tuple[str, str], folder: Path) -> Path:
        """A copy of an artifact's files, to be spoiled, and of what lies beside it."""
        artifact = self.made[key]
        beside = artifact.path.with_name(LAYERS)
        for file in (*artifact.files(), *([beside] if beside.is_file() else [])):
            shutil.copyfile(file, folder / file.name)
        return folder / artifact.path.name


OPTIONS = TensorRtOptions(sm=(89,))


def _images(form: str) -> str | None:
    return "golden" if form == "int8" else None


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """What is the same in every run is measured once, the verdicts on healthy ONNX files included."""
    with measured_once(lambda artifact: artifact.format == Format.ONNX, _few) as models:
        yield models


def _few(preprocessing: Preprocessing) -> GoldenSet:
    """One image of a kind: evaluating them is what a test takes long for."""
    whole = synthetic(preprocessing)
    members = [whole.of_kind(kind).members[-1] for kind in whole.unique_kinds]
    return GoldenSet(tuple(members), preprocessing)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Made by the real stages from seeded weights."""
    weights = find_weights(WEIGHTS, MODEL, SIZE)
    model = reference.ReferenceModel(weights.model, _few(Preprocessing(image_size=SIZE)), None)
    shop = Workshop(weights, model, tmp_path_factory.mktemp("chain"))
    made: dict[tuple[str, str], Artifact] = {}
    shared: dict[str, Artifact] = {}
    for form in FORMS:
        job = Job(MODEL, TARGETS["tensorrt"], form, 1, 18, options=OPTIONS, calibrate=_images(form))
        source: Artifact | None = None
        *before, (last, _) = ((stage.name, wanted) for stage, wanted in job.plan)
        for name, wanted in before:
            if name not in shared or name not in SHARED:
                shared[name] = STAGES[name](shop, job, wanted, source)
            source = made[form, name] = shared[name]
        assert source is not None
        made[form, last] = _engine(source, shop.path(last, job, ".engine"))
    return Chain(made)


def _engine(source: Artifact, path: Path) -> Artifact:
    """A stand-in: nothing looks into an engine where it cannot run (tests/export/test_tensorrt.py builds real ones)."""
    path.write_bytes(b"an engine")
    path.with_name(LAYERS).write_text("{}")
    shutil.copyfile(source.path, path.with_suffix(".onnx"))
    return Artifact.on_disk(
        path, Format.ENGINE, source.model, made_by="build", precision=source.precision, source=source
    )


Load = Callable[[Artifact], Program]


@pytest.fixture(scope="module")
def load() -> Load:
    """The network of a file, parsed once: nobody changes a program."""
    known: dict[str, Program] = {}

    def loaded(artifact: Artifact) -> Program:
        key = digest(typed_onnx(artifact))
        if key not in known:
            known[key] = load_network(artifact)
        return known[key]

    return loaded


FilePlant = Callable[[Path], object]
NetworkPlant = Callable[[Program], Program]
Run = Callable[..., Outcome]


@pytest.fixture
def run(chain: Chain, models: Models, load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The real pipeline over the healthy chain's files, with the file of `stage` or the parsed network spoiled."""

    def runs(
        form: str, stage: str | None = None, plant: FilePlant | None = None, network: NetworkPlant | None = None
    ) -> Outcome:
        def replayed(name: str) -> Make:
            def made(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
                healthy = chain.made[form, name]
                path = chain.copied((form, name), shop.path(name, job, ".x").parent)
                if name == stage and plant is not None:
                    plant(path)
                found = Artifact.on_disk(
                    path,
                    healthy.format,
                    healthy.model,
                    made_by=name,
                    batch=healthy.batch,
                    precision=healthy.precision,
                    source=source,
                )
                return replace(found, settings=healthy.settings, notes=healthy.notes)

            return made

        def spoiled(artifact: Artifact) -> Program:
            assert network is not None
            return network(load(artifact))

        for module in (evaluated, reader):
            monkeypatch.setattr(module, "load_network", load if network is None else functools.cache(spoiled))
        request = Request(
            models=(MODEL,),
            targets=("tensorrt",),
            precision=form,
            weights=WEIGHTS,
            image_size=SIZE,
            out=tmp_path / "out",
            time=False,
            kit=False,
            options={"tensorrt": OPTIONS},
            calibrate=_images(form),
        )
        own = {name: replayed(name) for name in STAGES}
        (outcome,) = pipeline.run(request, Silent(), prepared=models.of(request), stages=own)
        return outcome

    return runs


def _require_rejected(outcome: Outcome, stage: str, gate: str) -> None:
    assert isinstance(outcome.final, Rejected), outcome.error or outcome.status
    assert outcome.stages[-1].name == stage
    assert all(isinstance(result.verdict, VerifiedArtifact) for result in outcome.stages[:-1])
    failed = {result.gate for result in outcome.final.report.gates if not result.passed}
    assert gate in failed, outcome.final.reason
    assert outcome.code(Evidence.BUILT) is Exit.REJECTED
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()


@pytest.mark.parametrize("form", FORMS)
def test_the_healthy_chain_is_built(form: str, run: Run) -> None:
    outcome = run(form)
    assert isinstance(outcome.final, Built), outcome.stages[-1].verdict
    assert outcome.code(Evidence.REFERENCE) is Exit.OK
    assert outcome.code(Evidence.NATIVE) is Exit.NOT_VERIFIED


# In the typed ONNX file.


def _pick(rng: Rng, items: list[Any]) -> Any:
    assert items, "the fault has nothing to be planted in"
    return items[int(rng.integers(len(items)))]


def _held(model: onnx.ModelProto, ending: str) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if tensor.name.endswith(ending)]


def _set(tensor: onnx.TensorProto, value: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))


def _value(tensor: onnx.TensorProto) -> Array:
    return numpy_helper.to_array(tensor).copy()


def _nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def _weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Of convolutions, as they are stored."""
    return _held(model, "weight_quantized") or _held(model, "expand.weight") + _held(model, "project.weight")


def wide_weights(model: onnx.ModelProto, rng: Rng) -> None:
    """One node's weights in float32, cast to float16 before they are used: the numbers are the same."""
    tensor = _pick(rng, _held(model, "expand.weight"))
    (reader,) = [node for node in model.graph.node if tensor.name in node.input]
    model.graph.node.insert(
        0, helper.make_node("Cast", [tensor.name], ["narrowed"], to=onnx.TensorProto.FLOAT16, name="narrow")
    )
    reader.input[1] = "narrowed"
    _set(tensor, _value(tensor).astype(np.float32))


def swapped_weights(model: onnx.ModelProto, rng: Rng) -> None:
    """Two convolutions of one shape with each other's weights: every tensor is still there."""
    tensors = _weights(model)
    pairs = [(a, b) for i, a in enumerate(tensors) for b in tensors[:i] if a.dims == b.dims]
    one, other = _pick(rng, pairs)
    first, second = _value(one), _value(other)
    _set(one, second)
    _set(other, first)


def last_bit(model: onnx.ModelProto, rng: Rng) -> None:
    """One weight off by a unit in its last place; of an int8 weight, by one."""
    tensor = _pick(rng, _weights(model))
    value = _value(tensor)
    flat = value.reshape(-1)
    i = int(rng.integers(flat.size))
    flat[i] = flat[i] - np.sign(flat[i] or 1) if value.dtype == np.int8 else np.nextafter(flat[i], flat.dtype.type(9))
    _set(tensor, value)


def transposed_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """A square matrix transposed, shape kept."""
    tensor = _pick(rng, [t for t in _weights(model) if len(t.dims) == 4 and t.dims[0] == t.dims[1]])
    _set(tensor, _value(tensor).transpose(1, 0, 2, 3))


def refolded(model: onnx.ModelProto, rng: Rng) -> None:
    """What is left of a BatchNorm that was folded with another epsilon: each channel scaled a little."""
    tensor = _pick(rng, _held(model, "expand.weight"))
    value = _value(tensor)
    variance = rng.uniform(0.5, 2, (value.shape[0], 1, 1, 1))
    _set(tensor, (value * np.sqrt((variance + 1e-5) / (variance + 1e-3))).astype(value.dtype))


def dropped_residual(model: onnx.ModelProto, rng: Rng) -> None:
    """A residual connection that goes nowhere."""
    node = _pick(rng, [node for node in _nodes(model, "Add") if "ffn" in node.name])
    node.op_type = "Identity"
    del node.input[0]


def relu6(model: onnx.ModelProto, rng: Rng) -> None:
    """A ReLU that sees large values clips at 6."""
    node = _pick(rng, [node for node in _nodes(model, "Relu") if "stem" in node.name or "merge" in node.name])
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    for name, bound in (("clip_low", 0), ("clip_high", 6)):
        array = np.array(bound, np.float16 if half else np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    node.op_type = "Clip"
    node.input.extend(["clip_low", "clip_high"])


def reshape_for_transpose(model: onnx.ModelProto, rng: Rng) -> None:
    """The right shape in the wrong order: a permutation that does nothing, and a reshape that makes up for it."""
    node = _pick(rng, _nodes(model, "Transpose"))
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    (shape,) = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes if v.name == node.output[0]]
    node.op_type = "Reshape"
    del node.attribute[:]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "wrong_order"))
    node.input.append("wrong_order")


def slight_activation(model: onnx.ModelProto, rng: Rng) -> None:
    """The scale of one activation off by its last bit: no range is that exact, but calibration found another."""
    tensor = _pick(rng, operands(model, 1))
    _set(tensor, np.nextafter(_value(tensor), np.float32(9)))


def _is_activations(node: onnx.NodeProto) -> bool:
    return node.op_type == "DequantizeLinear" and not node.input[0].endswith("weight_quantized")


def lost_pair(model: onnx.ModelProto, rng: Rng) -> None:
    """The quantizer of an activation and its inverse are gone: as right as before, and in float32."""
    inverse = _pick(rng, [node for node in model.graph.node if _is_activations(node)])
    (quantizer,) = [node for node in model.graph.node if node.output[0] == inverse.input[0]]
    for node in model.graph.node:
        node.input[:] = [quantizer.input[0] if name == inverse.output[0] else name for name in node.input]
    for node in (inverse, quantizer):
        model.graph.node.remove(node)
    for ending in ("_scale", "_zero_point"):
        for tensor in [t for t in model.graph.initializer if t.name == quantizer.input[0] + ending]:
            model.graph.initializer.remove(tensor)


def bypassed_pair(model: onnx.ModelProto, rng: Rng) -> None:
    """One reader takes the tensor itself; the quantizer is there for the others."""
    inverses = {node.output[0]: node for node in model.graph.node if _is_activations(node)}
    reader = _pick(rng, [node for node in _nodes(model, "Conv") if node.input[0] in inverses])
    (quantizer,) = [node for node in model.graph.node if node.output[0] == inverses[reader.input[0]].input[0]]
    reader.input[0] = quantizer.input[0]


def asymmetric(model: onnx.ModelProto, rng: Rng) -> None:
    """A zero point that is not zero, in both of a pair: TensorRT has none."""
    (name,) = {_pick(rng, _nodes(model, "QuantizeLinear")).input[2]}
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    _set(tensor, np.array(3, np.int8).reshape(_value(tensor).shape))


def one_scale_for_all(model: onnx.ModelProto, rng: Rng) -> None:
    """A weight with one scale for the tensor though each channel has its own, honestly quantized."""
    tensor = _pick(rng, _held(model, "expand.weight_quantized"))
    (scale,) = _held(model, tensor.name.removesuffix("_quantized") + "_scale")
    own = _value(scale).reshape(-1, 1, 1, 1)
    peak = np.float32(np.abs(_value(tensor) * own).max() / 127)
    _set(tensor, np.round(_value(tensor) * own / peak).astype(np.int8))
    _set(scale, np.full_like(_value(scale), peak))


@dataclass(frozen=True)
class Fault:
    """What is planted in which stage's file, and a gate that must be among those that see it."""

    plant: Callable[[onnx.ModelProto, Rng], None]
    form: str
    stage: str
    gate: str

    def __str__(self) -> str:
        return f"{self.plant.__name__}-{self.form}-{self.stage}"


FAULTS = (
    Fault(last_bit, "fp32", "simplify", "constants"),
    Fault(wide_weights, "fp16", "precision", "constants"),
    Fault(swapped_weights, "fp16", "precision", "constants"),
    Fault(last_bit, "fp16", "precision", "constants"),
    Fault(transposed_constant, "fp16", "precision", "constants"),
    Fault(refolded, "fp16", "precision", "constants"),
    Fault(softmax_axis, "fp16", "precision", "structure"),
    Fault(dropped_residual, "fp16", "precision", "structure"),
    Fault(relu6, "fp16", "precision", "structure"),
    Fault(reshape_for_transpose, "fp16", "precision", "structure"),
    Fault(weight_scale_by_an_ulp, "int8", "quantize", "constants"),
    Fault(last_bit, "int8", "quantize", "constants"),
    Fault(swapped_weights, "int8", "quantize", "constants"),
    Fault(transposed_constant, "int8", "quantize", "constants"),
    Fault(one_scale_for_all, "int8", "quantize", "constants"),
    Fault(asymmetric, "int8", "quantize", "constants"),
    Fault(coarse_activation, "int8", "quantize", "ranges"),
    Fault(clipped_activation, "int8", "quantize", "ranges"),
    Fault(lost_pair, "int8", "quantize", "operators"),
    Fault(bypassed_pair, "int8", "quantize", "operators"),
    Fault(softmax_axis, "int8", "quantize", "structure"),
    Fault(reshape_for_transpose, "int8", "quantize", "structure"),
    Fault(dropped_residual, "int8", "quantize", "structure"),
    Fault(last_bit, "fp32", "parse", "constants"),
    Fault(relu6, "fp32", "parse", "structure"),
    Fault(softmax_axis, "fp16", "parse", "structure"),
    Fault(swapped_weights, "fp16", "parse", "constants"),
    Fault(slight_activation, "int8", "parse", "constants"),
    Fault(weight_scale_by_an_ulp, "int8", "parse", "constants"),
    Fault(lost_pair, "int8", "parse", "operators"),
    Fault(bypassed_pair, "int8", "parse", "operators"),
)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_in_the_file(fault: Fault, run: Run) -> None:
    rng = np.random.default_rng(FAULTS.index(fault))

    def plant(path: Path) -> None:
        model = onnx.load(path)
        fault.plant(model, rng)
        onnx.save(model, path)

    _require_rejected(run(fault.form, fault.stage, plant), fault.stage, fault.gate)


def test_what_calibration_found_is_its_own_to_say(run: Run) -> None:
    """The same slight change where the scales are made is another calibration, and no fault; cf. `parse` above."""

    def plant(path: Path) -> None:
        model = onnx.load(path)
        slight_activation(model, np.random.default_rng(0))
        onnx.save(model, path)

    outcome = run("int8", "quantize", plant)
    assert outcome.stages[-1].name == "parse"  # the healthy file of the next stage is not this one's
    assert isinstance(outcome.final, Rejected)
    assert isinstance(outcome.stages[-2].verdict, VerifiedArtifact)


# In the network, as TensorRT's importer would have it.


def _with(program: Program, operation: Operation, **changes: Any) -> Program:
    """The program with one operation changed."""
    changed = replace(operation, **changes)
    return replace(program, operations=tuple(changed if o is operation else o for o in program.operations))


def _attribute(program: Program, operation: Operation, key: str, value: Any) -> Program:
    name = operation.inputs[key]
    assert isinstance(name, str)
    return replace(program, constants={**program.constants, name: Constant(value, program.constants[name].type)})


def _get(program: Program, operation: Operation, key: str) -> Any:
    name = operation.inputs[key]
    assert isinstance(name, str)
    return program.constants[name].value


def _kind(program: Program, kind: str) -> list[Operation]:
    return [operation for operation in program.operations if operation.kind == kind]


def _type(operation: Operation) -> TensorType:
    declared = operation.outputs[0][1]
    assert declared is not None
    return declared


def narrow_tensor(program: Program, rng: Rng) -> Program:
    """A tensor in float16 where float32 was asked for."""
    operation = _pick(rng, _kind(program, "convolution"))
    return _with(program, operation, outputs=((operation.name, replace(_type(operation), dtype="fp16")),))


def brain_tensor(program: Program, rng: Rng) -> Program:
    """A tensor in bfloat16 where float16 was asked for."""
    operation = _pick(rng, _kind(program, "convolution"))
    return _with(program, operation, outputs=((operation.name, replace(_type(operation), dtype="bf16")),))


def wide_tensor(program: Program, rng: Rng) -> Program:
    """A tensor that is float32 though what makes it is float16: nothing is wrong with its values."""
    operation = _pick(rng, _kind(program, "convolution"))
    return _with(program, operation, outputs=((operation.name, replace(_type(operation), dtype="fp32")),))


def brain_detour(program: Program, rng: Rng) -> Program:
    """Between two casts, by way of bfloat16: no layer mixes its types."""
    operation = _pick(rng, _kind(program, "activation"))
    kind, raw = _type(operation), f"{operation.name} before"
    detour = [replace(operation, outputs=((raw, kind),))]
    constants = dict(program.constants)
    for source, name, dtype in ((raw, f"{raw}, brain", "bf16"), (f"{raw}, brain", operation.name, "fp16")):
        constants[f"{name}:to"] = Constant(dtype, TensorType("attribute", ()))
        inputs = {"x": source, "to": f"{name}:to"}
        detour.append(Operation("cast", inputs, ((name, replace(kind, dtype=dtype)),)))
    at = program.operations.index(operation)
    operations = (*program.operations[:at], *detour, *program.operations[at + 1 :])
    return replace(program, operations=operations, constants=constants)


def integer_declared_float(program: Program, rng: Rng) -> Program:
    """A quantized tensor that the network says is float32."""
    operation = _pick(rng, _kind(program, "quantize"))
    return _with(program, operation, outputs=((operation.name, replace(_type(operation), dtype="fp32")),))


def swapped_kernels(program: Program, rng: Rng) -> Program:
    """Two convolutions of one shape read each other's kernel: the constants are as they should be."""
    found = [o for o in _kind(program, "convolution") if isinstance(o.inputs["kernel"], str)]
    shapes = {o.name: np.shape(program.constants[str(o.inputs["kernel"])].value) for o in found}
    one, other = _pick(
        rng, [(a, b) for i, a in enumerate(found) for b in found[:i] if shapes[a.name] == shapes[b.name]]
    )
    changed = _with(program, one, inputs={**one.inputs, "kernel": other.inputs["kernel"]})
    return _with(changed, other, inputs={**other.inputs, "kernel": one.inputs["kernel"]})


def transposed_kernel(program: Program, rng: Rng) -> Program:
    """A square kernel whose channels changed places."""
    found = _kind(program, "convolution")
    square = [o for o in found if len(set(np.shape(_get(program, o, "kernel"))[:2])) == 1 and o.kind]
    operation = _pick(rng, [o for o in square if np.shape(_get(program, o, "kernel"))[0] > 1])
    return _attribute(program, operation, "kernel", _get(program, operation, "kernel").transpose(1, 0, 2, 3).copy())


def transposed_operand(program: Program, rng: Rng) -> Program:
    """Attention's weights turned round in their product with the values: the shapes still fit."""
    types = program.types()
    square = [
        (o, key, side)
        for o in _kind(program, "matrix_multiply")
        for key, side in (("x", "first"), ("y", "second"))
        if str(o.inputs[key]) in types and len(set(types[str(o.inputs[key])].shape[-2:])) == 1
    ]
    operation, _, side = _pick(rng, square)
    turned = "NONE" if _get(program, operation, side) == "TRANSPOSE" else "TRANSPOSE"
    return _attribute(program, operation, side, turned)


def wrong_stride(program: Program, rng: Rng) -> Program:
    """A convolution that does not stride, and so gives what the network does not declare."""
    operation = _pick(rng, [o for o in _kind(program, "convolution") if _get(program, o, "stride") == [2, 2]])
    return _attribute(program, operation, "stride", [1, 1])


def shifted_padding(program: Program, rng: Rng) -> Program:
    """All the padding on one side."""
    operation = _pick(rng, [o for o in _kind(program, "convolution") if _get(program, o, "before") == [1, 1]])
    return _attribute(_attribute(program, operation, "before", [2, 2]), operation, "after", [0, 0])


def wrong_groups(program: Program, rng: Rng) -> Program:
    """A depthwise convolution read as a dense one."""
    operation = _pick(rng, [o for o in _kind(program, "convolution") if _get(program, o, "groups") > 1])
    return _attribute(program, operation, "groups", 1)


def wrong_softmax(program: Program, rng: Rng) -> Program:
    """A softmax over the other axis."""
    operation = _pick(rng, _kind(program, "softmax"))
    (axis,) = _get(program, operation, "axes")
    return _attribute(program, operation, "axes", [3 - axis])


def dropped_layer(program: Program, rng: Rng) -> Program:
    """A residual addition that hands on its first operand."""
    types = program.types()
    sums = [o for o in _kind(program, "elementwise") if _get(program, o, "op") == "SUM" and len(_type(o).shape) == 4]
    operation = _pick(rng, [o for o in sums if types.get(str(o.inputs["x"])) == types.get(str(o.inputs["y"]))])
    return _with(program, operation, kind="identity", inputs={"x": operation.inputs["x"]})


def dropped_relu(program: Program, rng: Rng) -> Program:
    """An activation that lets everything through."""
    operation = _pick(rng, [o for o in _kind(program, "activation") if _get(program, o, "function") == "RELU"])
    return _with(program, operation, kind="identity", inputs={"x": operation.inputs["x"]})


def leaky_relu(program: Program, rng: Rng) -> Program:
    """A thousandth of what is negative comes through."""
    operation = _pick(rng, [o for o in _kind(program, "activation") if _get(program, o, "function") == "RELU"][:8])
    return _attribute(_attribute(program, operation, "function", "LEAKY_RELU"), operation, "alpha", 1e-3)


def greatest_for_mean(program: Program, rng: Rng) -> Program:
    """A pooling that takes the largest in place of the mean."""
    operation = _pick(rng, _kind(program, "reduce"))
    return _attribute(program, operation, "op", "MAX")


def wrong_reduce(program: Program, rng: Rng) -> Program:
    """A mean over the rows alone, which leaves another shape than the network declares."""
    operation = _pick(rng, _kind(program, "reduce"))
    return _attribute(program, operation, "axes", [3])


def difference(program: Program, rng: Rng) -> Program:
    """A subtraction in place of an addition."""
    operation = _pick(rng, [o for o in _kind(program, "elementwise") if _get(program, o, "op") == "SUM"])
    return _attribute(program, operation, "op", "SUB")


def another_head(program: Program, rng: Rng) -> Program:
    """A head that is given the first head's channels."""
    found = [o for o in _kind(program, "slice") if _get(program, o, "start")[1] > 0]
    operation = _pick(rng, found)
    start = _get(program, operation, "start")
    return _attribute(program, operation, "start", [start[0], 0, *start[2:]])


def heads_in_another_order(program: Program, rng: Rng) -> Program:
    """What the heads say joined in another order."""
    operation = _pick(rng, _kind(program, "concatenation"))
    first, *rest = operation.inputs["values"]
    return _with(program, operation, inputs={**operation.inputs, "values": (*rest, first)})


def lost_permutation(program: Program, rng: Rng) -> Program:
    """A transposition that became a reshape to the same shape."""
    found = [o for o in _kind(program, "shuffle") if "first" in o.inputs or "second" in o.inputs]
    operation = _pick(rng, found)
    name = f"{operation.name}:shape"
    constants = {**program.constants, name: Constant(list(_type(operation).shape), TensorType("attribute", ()))}  # type: ignore[arg-type]
    inputs = {"x": operation.inputs["x"], "shape": name, "zero_keeps": operation.inputs["zero_keeps"]}
    return _with(replace(program, constants=constants), operation, inputs=inputs)


def lost_bias(program: Program, rng: Rng) -> Program:
    """A convolution that forgot to add its bias: the constant is there."""
    operation = _pick(rng, [o for o in _kind(program, "convolution") if "project" in str(o.inputs.get("bias"))])
    return _with(program, operation, inputs={k: v for k, v in operation.inputs.items() if k != "bias"})


def kernel_bit(program: Program, rng: Rng) -> Program:
    """The last bit of one weight."""
    operation = _pick(rng, [o for o in _kind(program, "convolution") if str(o.inputs["kernel"]) in program.constants])
    value = np.array(_get(program, operation, "kernel"))
    flat = value.reshape(-1)
    i = int(rng.integers(flat.size))
    flat[i] = np.nextafter(flat[i], flat.dtype.type(9))
    return _attribute(program, operation, "kernel", value)


def altered_scale(program: Program, rng: Rng) -> Program:
    """The scale of an activation off by a thousandth."""
    operation = _pick(rng, _kind(program, "quantize"))
    return _attribute(program, operation, "scale", np.asarray(_get(program, operation, "scale") * np.float32(1.001)))


def another_scale(program: Program, rng: Rng) -> Program:
    """A quantizer that reads another tensor's scale: the constants are as they should be."""
    found = _kind(program, "quantize")
    one, other = _pick(rng, [(a, b) for a in found for b in found if _far(program, a, b)])
    return _with(program, one, inputs={**one.inputs, "scale": other.inputs["scale"]})


def _far(program: Program, one: Operation, other: Operation) -> bool:
    ratio = float(_get(program, one, "scale")) / float(_get(program, other, "scale"))
    return not 0.8 < ratio < 1.25


def bypassed_quantizer(program: Program, rng: Rng) -> Program:
    """A convolution that reads the tensor before its quantizer."""
    by_name = {o.name: o for o in program.operations}
    found = [o for o in _kind(program, "convolution") if by_name.get(str(o.inputs["x"]), o).kind == "dequantize"]
    operation = _pick(rng, found)
    raw = by_name[str(by_name[str(operation.inputs["x"])].inputs["x"])].inputs["x"]
    return _with(program, operation, inputs={**operation.inputs, "x": raw})


def zero_point(program: Program, rng: Rng) -> Program:
    """A quantizer whose zero is three."""
    operation = _pick(rng, _kind(program, "quantize"))
    constants = {**program.constants, "three": Constant(np.array(3, np.int8), TensorType("int8", ()))}
    return _with(replace(program, constants=constants), operation, inputs={**operation.inputs, "zero": "three"})


def unknown_layer(program: Program, rng: Rng) -> Program:
    """A layer that the reader has no words for."""
    del program, rng
    raise BrokenArtifact("layer 'stage1/TopK' of the parsed network is of an unsupported kind", got="TOPK")


def renamed_output(program: Program, rng: Rng) -> Program:
    """The logits under another name."""
    (operation,) = [o for o in program.operations if o.name == program.outputs[0]]
    del rng
    return replace(_with(program, operation, outputs=(("scores", _type(operation)),)), outputs=("scores",))


@dataclass(frozen=True)
class NetworkFault:
    """What is planted in the parsed network, and a gate that must be among those that see it."""

    plant: Callable[[Program, Rng], Program]
    form: str
    gate: str

    def __str__(self) -> str:
        return f"{self.plant.__name__}-{self.form}"


NETWORK_FAULTS = (
    NetworkFault(narrow_tensor, "fp32", "precision"),
    NetworkFault(brain_tensor, "fp16", "operators"),
    NetworkFault(wide_tensor, "fp16", "operators"),
    NetworkFault(brain_detour, "fp16", "operators"),
    NetworkFault(integer_declared_float, "int8", "interface"),
    NetworkFault(swapped_kernels, "fp32", "structure"),
    NetworkFault(swapped_kernels, "fp16", "structure"),
    NetworkFault(transposed_kernel, "fp16", "constants"),
    NetworkFault(transposed_operand, "fp32", "structure"),
    NetworkFault(wrong_stride, "fp32", "interface"),
    NetworkFault(shifted_padding, "fp16", "structure"),
    NetworkFault(wrong_groups, "fp32", "interface"),
    NetworkFault(wrong_softmax, "fp16", "structure"),
    NetworkFault(dropped_layer, "fp16", "structure"),
    NetworkFault(dropped_relu, "int8", "structure"),
    NetworkFault(leaky_relu, "fp16", "structure"),
    NetworkFault(greatest_for_mean, "fp32", "structure"),
    NetworkFault(wrong_reduce, "fp32", "interface"),
    NetworkFault(difference, "fp32", "structure"),
    NetworkFault(another_head, "fp16", "structure"),
    NetworkFault(heads_in_another_order, "fp32", "structure"),
    NetworkFault(lost_permutation, "fp32", "structure"),
    NetworkFault(lost_bias, "fp16", "structure"),
    NetworkFault(kernel_bit, "fp16", "constants"),
    NetworkFault(altered_scale, "int8", "constants"),
    NetworkFault(another_scale, "int8", "execution"),
    NetworkFault(bypassed_quantizer, "int8", "execution"),
    NetworkFault(zero_point, "int8", "interface"),
    NetworkFault(unknown_layer, "fp16", "interface"),
    NetworkFault(renamed_output, "fp16", "interface"),
)


@pytest.mark.parametrize("fault", NETWORK_FAULTS, ids=str)
def test_planted_in_the_parsed_network(fault: NetworkFault, run: Run) -> None:
    seed = NETWORK_FAULTS.index(fault)  # the same fault each time that the network is read
    outcome = run(fault.form, network=lambda program: fault.plant(program, np.random.default_rng(seed)))
    _require_rejected(outcome, "parse", fault.gate)


# In what is built.


def test_a_file_beside_the_engine_that_nobody_judged_does_not_ship(run: Run) -> None:
    """Whoever builds the engine again would build it from that."""

    def plant(path: Path) -> None:
        model = onnx.load(path.with_suffix(".onnx"))
        last_bit(model, np.random.default_rng(0))
        onnx.save(model, path.with_suffix(".onnx"))

    outcome = run("fp16", "build", plant)
    assert isinstance(outcome.error, ArtifactChanged)
    assert outcome.failed_stage == "build"
    assert outcome.code(Evidence.BUILT) is Exit.REJECTED
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()
