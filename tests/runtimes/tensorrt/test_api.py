"""The names that this project uses of TensorRT's API: there in versions 10 and 11 and in what is installed.

Enterprise TensorRT can only be installed on a GPU host, so the names that 10.16 and 11.4 have were written down
(tests/data): the version, then `Class : [names]` for the classes in which versions differ, and in the last line all
names of the module. Classes that are not in the lists are looked up in TensorRT for RTX, whose API is the same.
"""

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.errors import BrokenArtifact, MissingExtra, StageFailed
from efficientvit.installation import install_command
from export.targets.tensorrt.options import ARCHITECTURES
from runtimes.tensorrt import api, operators
from runtimes.tensorrt import network as trt_program
from runtimes.tensorrt.api import ENTERPRISE, RTX, Messages, Product, block_shape, parsed, product, require, sized

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

ROOT = Path(__file__).parents[3]
LISTINGS = sorted((ROOT / "tests" / "data").glob("tensorrt-api-*.txt"))
MODULE = "the module"

RTX_ONLY = {(MODULE, "ComputeCapability"), ("IBuilderConfig", "num_compute_capabilities"),
            ("IBuilderConfig", "set_compute_capability")}  # fmt: skip
"""Ahead of time for whole architectures: enterprise TensorRT has none of it."""


@dataclass(frozen=True)
class Listing:
    """What one version has. `classes` None: the class is absent."""

    version: str
    classes: Mapping[str, Sequence[str] | None]
    module: Sequence[str]

    def lacks(self, owner: str, name: str) -> bool:
        if owner == MODULE:
            return name not in self.module
        if owner not in self.classes:
            return owner not in self.module  # what it has was not written down
        names = self.classes[owner]
        return names is None or name not in names


def _listing(path: Path) -> Listing:
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" : ", 1) for line in lines if not line.startswith("[")]
    classes = {name: None if names.startswith("--") else ast.literal_eval(names) for name, names in pairs}
    return Listing(first, classes, ast.literal_eval(lines[-1]))


@pytest.fixture(scope="module")
def listings() -> list[Listing]:
    return [_listing(path) for path in LISTINGS]


Bases = Mapping[str, str]
"""Expression -> TensorRT's class of it, as the code writes it."""

OWNERS: Mapping[str, Bases] = {
    "runtimes/tensorrt/api.py": {
        "trt": MODULE,
        "self.trt": MODULE,
        "builder": "Builder",
        "parser": "OnnxParser",
        "error": "ParserError",
        "layer": "IQuantizeLayer",
    },
    "runtimes/tensorrt/native.py": {
        "using.trt": MODULE,
        "runtime": "Runtime",
        "engine": "ICudaEngine",
        "self.engine": "ICudaEngine",
        "device.engine": "ICudaEngine",
        "self._context": "IExecutionContext",
    },
    "runtimes/tensorrt/evaluated.py": {},
    "runtimes/tensorrt/operators.py": {},
    "runtimes/tensorrt/reader.py": {},
    "runtimes/tensorrt/network.py": {
        "trt": MODULE,
        "network": "INetworkDefinition",
        "network.get_output(index)": "ITensor",
        "layer": "ILayer",
        "tensor": "ITensor",
        "output": "ITensor",
        "tensor.dtype": "DataType",
        "layer.type": "LayerType",
        "layer.op": "ElementWiseOperation",
        "layer.op0": "MatrixOperation",
        "layer.op1": "MatrixOperation",
        "layer.mode": "SampleMode",
        "layer.padding_mode": "PaddingMode",
        "layer.to_type": "DataType",
    },
    "export/targets/tensorrt/build.py": {
        "trt": MODULE,
        "config": "IBuilderConfig",
        "config.get_timing_cache()": "ITimingCache",
        "network.builder": "Builder",
        "network.network": "INetworkDefinition",
        "network.network.get_input(0)": "ITensor",
        "profile": "IOptimizationProfile",
    },
}

OURS = {
    "self", "device", "properties", "evaluator", "evaluated", "operation", "network", "constant", "declared",
    "computed", "wanted", "given", "found",
    "Arithmetic", "Dtype",
}  # fmt: skip
"""First names of our own expressions with attributes that something of TensorRT's has too: whoever adds one says so."""


def _names_of_tensorrt() -> frozenset[str]:
    """Every attribute that any of its classes has, in any version known here, and that no everyday object has too."""
    installed = {name for entry in vars(tensorrt_rtx).values() if isinstance(entry, type) for name in dir(entry)}
    recorded = {name for path in LISTINGS for names in _listing(path).classes.values() for name in names or ()}
    everyday = {name for kind in (str, list, dict, Path, np.ndarray) for name in dir(kind)}
    return frozenset(name for name in (installed | recorded) - everyday if not name.startswith("_"))


def _first_name(node: ast.expr) -> str:
    """Of `a.b(c)[d]`: a. Empty where an expression begins with none."""
    while not isinstance(node, ast.Name):
        match node:
            case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Call(func=inner):
                node = inner
            case ast.BinOp(left=inner):
                node = inner
            case _:
                return ""
    return node.id


@dataclass(frozen=True)
class Use:
    """One attribute taken of one of TensorRT's objects."""

    owner: str
    name: str
    line: int


def uses(source: str, owners: Bases, layers: Mapping[str, Sequence[str]] | None = None) -> Iterator[Use]:
    """Every attribute of TensorRT's in `source`. `layers`: function -> the classes that its `layer` may be of.

    Raises:
        AssertionError: an expression of which the tables don't say what it is.
    """
    tree, names = ast.parse(source), _names_of_tensorrt()
    function_of = {
        node: function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        base = ast.unparse(node.value)
        classes: Sequence[str]
        if base == "layer" and layers and function_of.get(node) in layers:
            classes = layers[function_of[node]]
        elif base in owners:
            classes = [owners[base]]
        elif isinstance(node.value, ast.Attribute) and owners.get(ast.unparse(node.value.value)) == MODULE:
            classes = [node.value.attr]
        elif _first_name(node.value) in {"", *OURS} or node.attr not in names:
            continue
        else:
            raise AssertionError(f"line {node.lineno}: '{base}' is neither known as TensorRT's nor as ours")
        yield from (Use(owner, node.attr, node.lineno) for owner in classes)


def _layer_functions() -> dict[str, list[str]]:
    """The functions that read a layer's attributes, and the classes that come to them; the others take any layer."""
    result: dict[str, list[str]] = {}
    for class_name, _, read in trt_program._LAYERS.values():
        result.setdefault(read.__name__, []).append(class_name)
    return {**result, "_own": []}  # there it is a layer's name


def uses_in(file: str) -> list[Use]:
    layers = _layer_functions() if file == "runtimes/tensorrt/network.py" else None
    return list(uses((ROOT / file).read_text(encoding="utf-8"), OWNERS[file], layers))


def test_every_file_that_speaks_to_tensorrt_is_looked_at() -> None:
    files = {f"runtimes/tensorrt/{path.name}" for path in (ROOT / "runtimes/tensorrt").glob("[a-z]*.py")} | {
        "export/targets/tensorrt/build.py"
    }
    assert files == set(OWNERS)


def test_the_listings_are_of_the_two_versions_that_differ(listings: list[Listing]) -> None:
    assert [listing.version.split(".")[0] for listing in listings] == ["10", "11"]
    assert not listings[0].lacks("BuilderFlag", "FP16")
    assert listings[1].lacks("BuilderFlag", "FP16")


@pytest.mark.parametrize("file", OWNERS)
def test_what_is_used_is_in_both_versions_and_in_what_is_installed(file: str, listings: list[Listing]) -> None:
    wrong = []
    for use in uses_in(file):
        known = tensorrt_rtx if use.owner == MODULE else getattr(tensorrt_rtx, use.owner, None)
        if known is None or use.name not in dir(known):
            wrong.append(f"{use}: not in TensorRT for RTX")
        if use.name.startswith("__") or (use.owner, use.name) in RTX_ONLY:
            continue
        wrong += [f"{use}: not in {listing.version}" for listing in listings if listing.lacks(use.owner, use.name)]
    assert wrong == []


def test_something_is_used(listings: list[Listing]) -> None:
    """The walk finds what a reader of the code finds."""
    found = {(use.owner, use.name) for file in OWNERS for use in uses_in(file)}
    assert found >= {
        ("Builder", "build_serialized_network"),
        ("OnnxParser", "parse_from_file"),
        ("ParserError", "node_name"),
        ("BuilderFlag", "TF32"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "create_execution_context"),
        ("IExecutionContext", "execute_async_v3"),
        ("IConvolutionLayer", "kernel_size_nd"),
        ("IQuantizeLayer", "axis"),
        ("IDequantizeLayer", "axis"),
        ("ITimingCache", "serialize"),
    }
    assert {pair for pair in found if any(listing.lacks(*pair) for listing in listings)} - {
        (MODULE, "__version__"), ("ILogger", "__init__"), *((owner, "__class__") for owner, _ in found)
    } == RTX_ONLY  # fmt: skip


def test_what_only_rtx_has_stands_behind_the_question_which_product_it_is() -> None:
    source = (ROOT / "export/targets/tensorrt/build.py").read_text(encoding="utf-8")
    (guarded,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "not network.product.enterprise"
    ]
    assert guarded.end_lineno is not None
    lines = range(guarded.body[0].lineno, guarded.end_lineno + 1)
    rtx_only = [use for file in OWNERS for use in uses_in(file) if (use.owner, use.name) in RTX_ONLY]
    assert {use.name for use in rtx_only} == {name for _, name in RTX_ONLY}
    assert all(use.line in lines for use in rtx_only)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", "FP16"),
        ("builder.platform_has_fast_int8", "platform_has_fast_int8"),
        ("trt.IInt8EntropyCalibrator2", "IInt8EntropyCalibrator2"),
        ("trt.EngineValidity.VALID", "EngineValidity"),
    ],
)
def test_a_name_that_one_version_lacks_is_found(code: str, says: str, listings: list[Listing]) -> None:
    owners = {"trt": MODULE, "config": "IBuilderConfig", "builder": "Builder"}
    lacking = [use for use in uses(code, owners) if any(listing.lacks(use.owner, use.name) for listing in listings)]
    assert says in {use.name for use in lacking}


def test_an_object_that_nobody_told_of_is_found() -> None:
    with pytest.raises(AssertionError, match="'refitter' is neither"):
        list(uses("refitter.refit_cuda_engine()", {"trt": MODULE}))


def test_what_is_compared_as_text_is_in_the_enumerations(listings: list[Listing]) -> None:
    """Layer kinds, dtypes and operations are told apart by the names of enumerations' members."""
    trt = tensorrt_rtx
    texts = {
        "LayerType": trt_program._LAYERS,
        "DataType": trt_program._DTYPES,
        "ActivationType": operators._ACTIVATIONS,
        "ElementWiseOperation": operators._ELEMENTWISE,
        "UnaryOperation": operators._UNARY,
        "ReduceOperation": operators._REDUCTIONS,
        "MatrixOperation": ("NONE", "TRANSPOSE"),
        "PaddingMode": ("EXPLICIT_ROUND_DOWN",),
        "SampleMode": ("STRICT_BOUNDS",),
        "GatherMode": ("DEFAULT",),
        "InterpolationMode": ("LINEAR",),
        "ResizeCoordinateTransformation": ("HALF_PIXEL",),
        "ComputeCapability": [f"SM{sm}" for sm in ARCHITECTURES],
    }
    assert {name: sorted(set(members) - set(dir(getattr(trt, name)))) for name, members in texts.items()} == {
        name: [] for name in texts
    }
    for listing in listings:
        classes = [class_name for class_name, _, _ in trt_program._LAYERS.values()]
        assert [name for name in (*texts, *classes) if listing.lacks(MODULE, name)] == ["ComputeCapability"]
        assert [name for name in trt_program._DTYPES if listing.lacks("DataType", name)] == []


def test_what_a_resize_is_asked_by_name_is_there() -> None:
    (function,) = [
        node
        for node in ast.walk(ast.parse((ROOT / "runtimes/tensorrt/network.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "_resize"
    ]
    (loop,) = [node for node in function.body if isinstance(node, ast.For)]
    asked = [pair[0] for pair in ast.literal_eval(loop.iter)]
    assert asked
    assert set(asked) <= set(dir(tensorrt_rtx.IResizeLayer))


def _file(folder: Path, node: onnx.NodeProto, **held: np.ndarray[Any, Any]) -> Path:
    """An ONNX file of one node, from `image` (1, 3, 8, 8) to `logits`."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "one node",
        [value("image", onnx.TensorProto.FLOAT, (1, 3, 8, 8))],
        [value("logits", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    path = folder / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    return path


REFUSED = {
    "an operator that it has not": onnx.helper.make_node("Det", ["image"], ["logits"], name="stem.conv1/Det"),
    "a kernel for other channels": onnx.helper.make_node("Conv", ["image", "w"], ["logits"], name="stem.conv1/Conv"),
    "operands of two dtypes": onnx.helper.make_node("Add", ["image", "half"], ["logits"], name="stem.conv1/Add"),
    "an operand that nobody gives": onnx.helper.make_node(
        "Add", ["image", "nothing"], ["logits"], name="stem.conv1/Add"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_file_names_the_node_and_by_it_the_module(what: str, tmp_path: Path) -> None:
    path = _file(tmp_path, REFUSED[what], w=np.zeros((4, 5, 3, 3), np.float32), half=np.zeros(1, np.float16))
    with (
        pytest.raises(StageFailed, match=r"tensorrt-rtx .* cannot parse model\.onnx") as refused,
        parsed(path, product(RTX)),
    ):
        pass
    assert refused.value.got is not None
    assert refused.value.got.startswith(f"node '{REFUSED[what].name}' ({REFUSED[what].op_type}): ")
    assert "module" in str(refused.value.next_step)


def test_what_is_no_onnx_file_is_refused_without_a_node(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(StageFailed, match="cannot parse") as refused, parsed(path, product(RTX)):
        pass
    assert "node" not in str(refused.value.got)


def test_a_parsed_file_is_a_network_of_declared_types(tmp_path: Path) -> None:
    path = _file(tmp_path, onnx.helper.make_node("Relu", ["image"], ["logits"], name="stem.relu1/Relu"))
    with parsed(path, product(RTX)) as network:
        assert network.network.get_flag(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        assert network.network.get_layer(0).name == "stem.relu1/Relu"
        assert network.messages.of("ERROR", "INTERNAL_ERROR") == []


def test_no_builder_is_a_failure_that_says_what_to_do(tmp_path: Path) -> None:
    """Enterprise TensorRT without a driver: the bindings raise TypeError where the library gives nothing."""

    class Nothing:
        def __init__(self, logger: Any) -> None:
            logger.log(SimpleNamespace(name="ERROR"), "no driver")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    stand_in = SimpleNamespace(ILogger=tensorrt_rtx.ILogger, Builder=Nothing, __version__="11.4")
    using = Product(ENTERPRISE, stand_in)
    with pytest.raises(StageFailed, match=r"tensorrt 11\.4 gives no builder") as failed, parsed(tmp_path, using):
        pass
    assert failed.value.got == "no driver"
    assert "GPU" in str(failed.value.next_step)


@pytest.mark.parametrize(
    ("there", "gpus", "names"),
    [
        ({"tensorrt", "tensorrt_rtx"}, 1, (ENTERPRISE, RTX)),
        ({"tensorrt", "tensorrt_rtx"}, 0, (RTX,)),  # enterprise TensorRT can do nothing without a GPU
        ({"tensorrt"}, 0, ()),
        ({"tensorrt_rtx"}, 1, (RTX,)),
        (set(), 1, ()),
    ],
)
def test_enterprise_is_preferred_where_there_is_a_gpu(
    there: set[str], gpus: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "count_gpus", lambda: gpus)
    monkeypatch.setattr(api, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(__version__=name))
    assert api.installed() == names
    if names:
        chosen = product()
        assert (chosen.name, chosen.enterprise) == (names[0], names[0] == ENTERPRISE)
        assert chosen.version == api.MODULES[names[0]]
    else:
        with pytest.raises(MissingExtra, match=r"tensorrt_rtx") as missing:
            product()
        assert missing.value.next_step == install_command("tensorrt")


def test_a_product_is_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert product(RTX).trt is tensorrt_rtx
    monkeypatch.setattr(api, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="'tensorrt'"):
        product(ENTERPRISE)


def test_messages_are_kept_by_severity() -> None:
    messages = Messages([("ERROR", "one"), ("VERBOSE", "two"), ("INTERNAL_ERROR", "three")])
    assert messages.of("VERBOSE") == ["two"]
    assert messages.errors() == "one; three"
    assert Messages().errors() == "no reason given"


def test_the_logger_hears_what_the_library_says() -> None:
    logger, messages = api.engine_logger(product(RTX))
    assert tensorrt_rtx.Runtime(logger).deserialize_cuda_engine(b"no engine") is None
    assert messages.errors() != "no reason given"


def test_dimensions_as_numbers() -> None:
    assert sized(tensorrt_rtx.Dims([2, -1])) == [2, -1]
    assert sized(()) == []
    assert sized(None) is None
    with_none = tensorrt_rtx.Builder(api.engine_logger(product(RTX))[0]).create_network(0)
    shuffle = with_none.add_shuffle(with_none.add_input("x", tensorrt_rtx.float32, (2, 3)))
    assert sized(shuffle.reshape_dims) is None  # never set


def test_blocks_where_a_version_knows_none() -> None:
    class Raises:
        @property
        def block_shape(self) -> Any:
            raise RuntimeError("not in blocks")

    assert block_shape(object()) is None
    assert block_shape(Raises()) is None
    assert block_shape(SimpleNamespace(block_shape=())) is None
    assert block_shape(SimpleNamespace(block_shape=(1, 16))) == [1, 16]


def test_what_is_required_is_named() -> None:
    require(True, "stem.conv1/Conv", "never said")
    with pytest.raises(BrokenArtifact, match=r"stem\.conv1/Conv") as broken:
        require(False, "stem.conv1/Conv", "mode WRAP")
    assert broken.value.got == "mode WRAP"
