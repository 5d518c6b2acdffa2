"""What each ONNX operator computes: ONNX's own test cases, and ONNX Runtime where it has none."""

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.onnx.operators import ONNX
from runtimes.onnx.program import OPSETS, read_program
from runtimes.onnx.runtime import oracle_session
from tests.integer_cpu import skip_without_exact_int8

Array = NDArray[Any]

OPTIONAL_OUTPUTS = {"Dropout": 1, "LayerNormalization": 1, "MaxPool": 1}
"""Operators whose further outputs are not supported: the cases are cut down to the first."""

REFUSED = (
    r"uint(16|32|64)",  # torch lacks their arithmetic
    r"e4m3|e5m2|FLOAT8|FLOAT4|float4|e8m0|INT4|INT2|int4$|int2$",  # of fewer than 8 bits, and 8-bit floats
    r"equal_string",
    r"select_last_index",
    r"averagepool_\w+_dilations|averagepool_2d_ceil_last_window_starts_on_pad",
    r"batchnorm_\w+_training_mode|training_dropout",
    r"convtranspose_(autopad_same|kernel_shape|output_shape)",
    r"blocked",
    r"identity_(opt|sequence)",
    r"maxpool_2d_uint8",
    r"reduce_(max|min)_empty_set",
    r"resize_\w+(exclude_outside|antialias|half_pixel_symmetric|not_larger|not_smaller|crop_and_resize)",
    r"resize_tf_crop_and_resize",
    r"resize_downsample_scales_(linear|cubic)_align_corners",
    r"scatter_elements_with_(reduction|duplicate_indices)|scatternd_(add|multiply|max|min)",
    r"spacetodepth_crd",
)
"""Cases that need not have a meaning here. Each must be refused, or be right."""

ROUNDED = re.compile(r"bfloat16|_to_BFLOAT16")
"""What rounds to bfloat16, which is the evaluation's business."""


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Any]]:
    """ONNX's cases of one node, by operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found: dict[str, list[Any]] = {}
        for case in collect_testcases(None):
            graph = case.model.graph if case.model is not None else None
            if graph is not None and len(graph.node) == 1:
                found.setdefault(graph.node[0].op_type, []).append(case)
    return found


OWN = sorted(kind for kind in ONNX.operators if "." not in kind and "-" not in kind)


@pytest.mark.parametrize("kind", [kind for kind in OWN if kind != "SimplifiedLayerNormalization"])
def test_onnx_cases(cases: dict[str, list[Any]], kind: str) -> None:
    right = 0
    for case in cases[kind]:
        assert not case.model.graph.node[0].domain
        try:
            _compare(case, kind)
        except BrokenArtifact:
            assert any(re.search(pattern, case.name) for pattern in REFUSED), case.name
        else:
            right += 1
    assert right


def _compare(case: Any, kind: str) -> None:
    model = case.model
    for entry in model.opset_import:
        entry.version = min(max(entry.version, OPSETS[0]), OPSETS[-1])
    first = OPTIONAL_OUTPUTS.get(kind)
    if first:
        del model.graph.node[0].output[first:], model.graph.output[first:]
    evaluator = Evaluator(read_program(model), Arithmetic.FLOAT32, ONNX)
    for given, wanted in case.data_sets:
        feeds = {value.name: _array(array) for value, array in zip(model.graph.input, given, strict=True)}
        found = evaluator(feeds)
        for value, array in zip(model.graph.output, wanted, strict=False):
            rounding = 1e-2 if ROUNDED.search(case.name) else 0.0
            answer = found[value.name].numpy()
            assert answer.shape == _array(array).shape, case.name
            np.testing.assert_allclose(
                answer.astype(np.float64),
                _array(array).astype(np.float64),
                rtol=max(case.rtol, 1e-4, rounding),
                atol=max(case.atol, 1e-5),
                err_msg=case.name,
            )


def _array(value: Any) -> Array:
    """Without the types that NumPy lacks."""
    array = np.array(numpy_helper.to_array(value) if isinstance(value, TensorProto) else value)
    if array.dtype.kind not in "fiub" or not hasattr(np, array.dtype.name):
        if array.dtype.name == "bfloat16":
            return array.astype(np.float32)
        raise BrokenArtifact(f"a test case of {array.dtype}")
    return array


RNG = np.random.default_rng(0)


def _floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def _bytes(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def _signed(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def _scale(value: float) -> Array:
    return np.array(value, np.float32)


def _zero(value: int, dtype: Any = np.uint8) -> Array:
    return np.array(value, dtype)


IN, OUT, SUM = (_scale(0.02), _zero(120)), (_scale(0.031), _zero(131)), (_scale(0.05), _zero(99))

Contributed = tuple[str, Sequence[Array | None], dict[str, Any]]


def _contributed() -> Iterator[Contributed]:
    image, weight = _floats(2, 4, 7, 6), _floats(6, 2, 3, 3)
    yield "FusedConv", [image, weight, _floats(6)], {"group": 2, "activation": "Relu", "pads": [1, 1, 1, 1]}
    yield "FusedConv", [image, weight], {"group": 2, "activation": "Clip", "activation_params": [-0.5, 0.5]}
    yield "FusedConv", [image, weight], {"group": 2, "activation": "LeakyRelu", "activation_params": [0.25]}
    yield "FusedConv", [image, weight], {"group": 2, "activation": "HardSigmoid", "activation_params": [0.25, 0.5]}
    strided = {"group": 2, "strides": [2, 2], "auto_pad": "VALID", "kernel_shape": [3, 3], "activation": "Relu"}
    yield "FusedConv", [image, weight, _floats(6), _floats(2, 6, 3, 2)], strided
    for flags in range(4):
        a, b = _floats(*((5, 3) if flags & 1 else (3, 5))), _floats(*((4, 5) if flags & 2 else (5, 4)))
        turned = {"transA": flags & 1, "transB": flags >> 1}
        yield "FusedGemm", [a, b, _floats(4)], {**turned, "alpha": 0.5, "beta": 2.0, "activation": "Relu"}
        yield "FusedGemm", [a, b], {**turned, "activation": "LeakyRelu", "activation_alpha": 0.1}
        yield "FusedMatMul", [a, b], {**turned, "alpha": 0.25}
    yield "FusedMatMul", [_floats(3, 2, 4), _floats(2, 4, 5)], {"transBatchA": 1}
    yield "FusedMatMul", [_floats(3, 2, 4), _floats(2, 3, 4)], {"transBatchA": 1, "transA": 1}
    yield "Gelu", [_floats(3, 4)], {}
    yield "BiasGelu", [_floats(3, 4), _floats(4)], {}
    yield "FastGelu", [_floats(3, 4), _floats(4)], {}
    yield "FastGelu", [_floats(3, 4)], {}
    yield "QuickGelu", [_floats(3, 4)], {}
    yield "QuickGelu", [_floats(3, 4)], {"alpha": 1.25}
    yield "SkipLayerNormalization", [_floats(2, 3, 8), _floats(2, 3, 8), _floats(8), _floats(8), _floats(8)], {}
    yield "SkipLayerNormalization", [_floats(2, 3, 8), _floats(2, 3, 8), _floats(8)], {"epsilon": 0.5}
    yield "MatMulIntegerToFloat", [_bytes(3, 5), _bytes(5, 4), *IN[:1], *OUT[:1], IN[1], OUT[1], _floats(4)], {}
    yield "MatMulIntegerToFloat", [_bytes(3, 5), _signed(5, 4), _scale(0.5), np.abs(_floats(4))], {}
    yield "QLinearAdd", [_bytes(3, 4), *IN, _bytes(4), *OUT, *SUM], {}
    yield "QLinearMul", [_bytes(3, 4), *IN, _bytes(3, 1), *OUT, *SUM], {}
    yield "QLinearSigmoid", [_bytes(3, 4), *IN, _scale(1 / 256), _zero(0)], {}
    yield "QLinearLeakyRelu", [_bytes(3, 4), *IN, *OUT], {"alpha": 0.2}
    yield "QLinearLeakyRelu", [_bytes(3, 4), *IN, *OUT], {}
    yield "QLinearSoftmax", [_bytes(3, 4), *IN, _scale(1 / 256), _zero(0)], {"opset": 18, "axis": -1}
    yield "QLinearGlobalAveragePool", [_bytes(2, 4, 5, 3), *IN, *OUT], {}
    yield "QLinearGlobalAveragePool", [_bytes(2, 5, 3, 4), *IN, *OUT], {"channels_last": 1}
    yield "QLinearAveragePool", [_bytes(2, 4, 6, 6), *IN, *OUT], {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield "QLinearConcat", [*SUM, _bytes(2, 3), *IN, _bytes(2, 2), *OUT], {"axis": 1}
    kernel = [_signed(6, 2, 3, 3), np.abs(_floats(6)) / 99, np.zeros(6, np.int8)]
    bias = RNG.integers(-999, 999, 6).astype(np.int32)
    yield "QLinearConv", [_bytes(2, 7, 6, 4), *IN, *kernel, *SUM, bias], {"group": 2, "channels_last": 1}
    right = [_signed(5, 4), _scale(0.01), _zero(0, np.int8)]
    yield "QGemm", [_bytes(3, 5), *IN, *right, RNG.integers(-99, 99, 4).astype(np.int32), *SUM], {"alpha": 1.0}
    yield "QGemm", [_bytes(3, 5), *IN, *right], {"alpha": 0.5}
    columns = [_signed(4, 5), np.abs(_floats(4)) / 99, np.zeros(4, np.int8)]
    yield "QGemm", [_bytes(3, 5), *IN, *columns, RNG.integers(-99, 99, 4).astype(np.int32), *SUM], {"transB": 1}
    yield "QuantizeLinear", [_floats(3, 4), *SUM], {}
    yield "DequantizeLinear", [_bytes(3, 4), *SUM], {}


CONTRIBUTED = list(_contributed())


def test_every_contributed_operator_is_tried() -> None:
    ours = {kind.removeprefix("com.microsoft.") for kind in ONNX.operators if kind.startswith("com.microsoft.")}
    assert {kind for kind, _, _ in CONTRIBUTED} == ours


@pytest.mark.parametrize(
    ("kind", "given", "attributes"), [pytest.param(*case, id=f"{case[0]}-{n}") for n, case in enumerate(CONTRIBUTED)]
)
def test_contributed_operators(kind: str, given: Sequence[Array | None], attributes: dict[str, Any]) -> None:
    """Of integers one may be off by one: ONNX Runtime sums integers where a file with quantizers has floats."""
    _against_onnx_runtime(kind, "com.microsoft", 18, given, attributes)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
@pytest.mark.parametrize("opset", [11, 12, 13])
def test_softmax_of_every_opset(kind: str, axis: int | None, opset: int) -> None:
    _against_onnx_runtime(kind, "", opset, [_floats(2, 3, 4)], {} if axis is None else {"axis": axis})


OTHER_FORMS: Sequence[tuple[str, Sequence[Array | None], dict[str, Any], int]] = (
    ("LayerNormalization", [_floats(2, 3, 8), _floats(8), _floats(8)], {"axis": -1}, 11),
    ("SimplifiedLayerNormalization", [_floats(2, 3, 8), _floats(8)], {"axis": -1, "epsilon": 1e-3}, 14),
    ("ReduceMean", [_floats(2, 3, 4)], {"axes": [1, -1], "keepdims": 0}, 11),
    ("ReduceSum", [_floats(2, 3, 4)], {}, 11),
    ("Squeeze", [_floats(2, 1, 4, 1)], {"axes": [1, -1]}, 11),
    ("Squeeze", [_floats(2, 1, 4, 1)], {}, 11),
    ("Unsqueeze", [_floats(2, 3)], {"axes": [0, -1]}, 11),
    ("Split", [_floats(6, 2)], {"axis": 0, "split": [1, 5]}, 11),
    ("Split", [_floats(6, 2)], {"axis": 0}, 11),
    ("Dropout", [_floats(2, 3)], {"ratio": 0.5}, 11),
    ("Dropout", [_floats(2, 3)], {}, 13),
    ("BatchNormalization", [_floats(2, 3, 4, 4), *(np.abs(_floats(3)) for _ in range(4))], {"epsilon": 0.1}, 11),
    ("GroupNormalization", [_floats(2, 6, 4), _floats(2), _floats(2)], {"num_groups": 2}, 20),
    ("GroupNormalization", [_floats(2, 6, 4), _floats(6), _floats(6)], {"num_groups": 2}, 21),
    ("Clip", [_floats(3, 4), _scale(-0.5)], {}, 11),
    ("Clip", [_floats(3, 4), None, _scale(0.5)], {}, 13),
    ("Gemm", [_floats(3, 5), _floats(5, 4), _floats(4)], {"alpha": 0.5, "beta": 2.0}, 11),
    ("Cast", [_floats(3, 5) * 9], {"to": TensorProto.INT32}, 13),
    ("QLinearConv", [_bytes(2, 4, 7, 6), *IN, _signed(6, 4, 3, 3), _scale(0.01), _zero(0, np.int8), *SUM], {}, 11),
)


@pytest.mark.parametrize(
    ("kind", "given", "attributes", "opset"),
    [pytest.param(*case, id=f"{case[0]}-{n}") for n, case in enumerate(OTHER_FORMS)],
)
def test_other_forms(kind: str, given: Sequence[Array | None], attributes: dict[str, Any], opset: int) -> None:
    """Of other opsets than ONNX's cases are written in."""
    _against_onnx_runtime(kind, "", opset, given, attributes)


def _against_onnx_runtime(
    kind: str, domain: str, opset: int, given: Sequence[Array | None], attributes: dict[str, Any]
) -> None:
    """The first tensor is an input, and also the others of its type; quantizers' scales are constants."""
    if kind in ("QLinearConv", "QGemm"):
        skip_without_exact_int8()
    names = [f"x{index}" if array is not None else "" for index, array in enumerate(given)]
    outputs = ["y", "y1"] if kind == "Split" else ["y"]
    node = helper.make_node(kind, names, outputs, domain=domain, **attributes)
    held = {name: array for name, array in zip(names, given, strict=True) if array is not None}
    fed = {name: array for name, array in held.items() if name == "x0" and array.ndim}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in fed.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in held.items() if name not in fed],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    wanted = oracle_session(model.SerializeToString()).run(None, fed)
    found = Evaluator(read_program(model), Arithmetic.FLOAT32, ONNX)(fed)
    for name, right in zip(outputs, wanted, strict=True):
        answer = found[name].numpy()
        assert (answer.shape, answer.dtype) == (right.shape, right.dtype)
        if right.dtype.kind == "f":
            np.testing.assert_allclose(answer, right, rtol=1e-4, atol=1e-5)
        else:
            apart = np.abs(answer.astype(int) - right.astype(int))
            assert apart.max() <= 1
            assert (apart > 0).mean() <= 0.1
            assert len(np.unique(right)) > 1
