"""Matrix products and 1x1 convolutions by the libraries at hand: what one of them reaches, a core can multiply.

PyTorch is not among them: on AMD its float32 products (MKL's) reach half of what others do there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.host.packages import missing
from runtimes.onnx.runtime import shipped_session
from runtimes.openvino.package import import_openvino
from runtimes.precision import Dtype

SHAPES = ((784, 384, 768), (1024, 1024, 1024))
"""(M, K, N) of a product of M x K with K x N: a feed-forward of M5 at batch 16, and a large square."""

_OPSET = 18


@dataclass(frozen=True, slots=True)
class Kernel:
    """One product. `run` computes it once; `operations`: multiplications and additions in it."""

    arithmetic: Dtype
    library: str
    shape: tuple[int, int, int]
    run: Callable[[], object]

    @property
    def operations(self) -> int:
        """Two for each product of numbers."""
        rows, inner, columns = self.shape
        return 2 * rows * inner * columns


def kernels(threads: int = 1) -> Iterator[Kernel]:
    """All that there are here. numpy's BLAS takes its number of threads from the environment."""
    for shape in SHAPES:
        yield from _numpy(shape)
        yield from _onnxruntime(shape, threads)
        if missing("openvino", None, "") is None:
            yield from _openvino(shape, threads)


def _numpy(shape: tuple[int, int, int]) -> Iterator[Kernel]:
    left, right = _floats(shape)
    out = np.empty((shape[0], shape[2]), np.float32)
    yield Kernel(Dtype.FP32, "numpy's BLAS", shape, lambda: np.matmul(left, right, out=out))


def _onnxruntime(shape: tuple[int, int, int], threads: int) -> Iterator[Kernel]:
    left, right = _floats(shape)
    for arithmetic, name, nodes, feed, weights in (
        (Dtype.FP32, "MatMul", _PRODUCT, left, right),
        (Dtype.FP32, "Conv 1x1", _CONVOLUTION, _as_image(left), _filters(right)),
        (Dtype.INT8, "MatMulInteger", _INTEGER_PRODUCT, _bytes(left), _integers(right)),
        (Dtype.INT8, "QLinearConv 1x1", _INTEGER_CONVOLUTION, _as_image(_bytes(left)), _filters(_integers(right))),
    ):
        session = shipped_session(_model(nodes, feed, weights), threads)
        yield Kernel(arithmetic, f"ONNX Runtime, {name}", shape, _onnxruntime_run(session, feed))


def _onnxruntime_run(session: Any, feed: NDArray[Any]) -> Callable[[], object]:
    return lambda: session.run(None, {"x": feed})


def _openvino(shape: tuple[int, int, int], threads: int) -> Iterator[Kernel]:
    openvino = import_openvino()
    core = openvino.Core()
    left, right = _floats(shape)
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads}
    product = _model(_PRODUCT, left, right)
    found = [(Dtype.FP32, "f32", product, left)]
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found.append((Dtype.BF16, "bf16", product, left))
    image = _as_image(_bytes(left))
    found.append((Dtype.INT8, "f32", _model(_BETWEEN_QUANTIZERS, image, _filters(_integers(right))), image))
    for arithmetic, floats, model, feed in found:
        hint = {"INFERENCE_PRECISION_HINT": floats}
        request = core.compile_model(core.read_model(model), "CPU", {**settings, **hint}).create_infer_request()
        request.set_input_tensor(openvino.Tensor(feed, shared_memory=True))
        name = "convolution 1x1" if arithmetic is Dtype.INT8 else "product"
        yield Kernel(arithmetic, f"OpenVINO, {name}", shape, _openvino_run(request))


def _openvino_run(request: Any) -> Callable[[], object]:
    def run() -> None:  # `infer` would copy the result
        request.start_async()
        request.wait()

    return run


def _floats(shape: tuple[int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of values whose products neither overflow nor become denormal."""
    rng = np.random.default_rng(0)
    rows, inner, columns = shape
    return rng.random((rows, inner), np.float32), rng.random((inner, columns), np.float32)


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (values * 255).astype(np.uint8)


def _integers(values: NDArray[np.float32]) -> NDArray[np.int8]:
    """In 7 bits: no kernel saturates."""
    return (values * 127 - 64).astype(np.int8)


def _as_image(left: NDArray[Any]) -> NDArray[Any]:
    """(M, K) -> (1, K, M / 28 or so, 28 or so): the pixels of a 1x1 convolution are the rows of the product."""
    rows, inner = left.shape
    width = next(each for each in (28, 32) if rows % each == 0)
    return np.ascontiguousarray(left.T.reshape(1, inner, rows // width, width))


def _filters(right: NDArray[Any]) -> NDArray[Any]:
    """(K, N) -> (N, K, 1, 1)."""
    return np.ascontiguousarray(right.T)[:, :, None, None]


Nodes = tuple[tuple[str, tuple[str, ...], str], ...]
"""Operator, inputs, output."""

_PRODUCT: Nodes = (("MatMul", ("x", "w"), "y"),)
_CONVOLUTION: Nodes = (("Conv", ("x", "w"), "y"),)
_INTEGER_PRODUCT: Nodes = (("MatMulInteger", ("x", "w"), "y"),)
_SCALES = {
    "x_scale": np.float32(1 / 255),
    "x_zero": np.uint8(0),
    "w_scale": np.float32(1 / 64),
    "w_zero": np.int8(0),
    "y_scale": np.float32(1),
    "y_zero": np.uint8(0),
}
_INTEGER_CONVOLUTION: Nodes = (
    ("QLinearConv", ("x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"), "y"),
)
_BETWEEN_QUANTIZERS: Nodes = (
    ("DequantizeLinear", ("x", "x_scale", "x_zero"), "a"),
    ("DequantizeLinear", ("w", "w_scale", "w_zero"), "b"),
    ("Conv", ("a", "b"), "c"),
    ("QuantizeLinear", ("c", "y_scale", "y_zero"), "y"),
)


def _model(nodes: Nodes, feed: NDArray[Any], weights: NDArray[Any]) -> bytes:
    """An ONNX model from `x`, of the shape of `feed`, to `y`; `weights` are `w`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    read = {name for _, inputs, _ in nodes for name in inputs}
    constants = {"w": weights, **{name: value for name, value in _SCALES.items() if name in read}}
    kind = helper.np_dtype_to_tensor_dtype(feed.dtype)
    gives = TensorProto.INT32 if nodes == _INTEGER_PRODUCT else kind
    shape = [*feed.shape[:-1], weights.shape[-1]] if feed.ndim == 2 else [1, len(weights), *feed.shape[2:]]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output]) for operator, inputs, output in nodes],
        "product",
        [helper.make_tensor_value_info("x", kind, feed.shape)],
        [helper.make_tensor_value_info("y", gives, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
