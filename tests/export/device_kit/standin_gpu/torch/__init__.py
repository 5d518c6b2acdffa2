"""A stand-in for the little of PyTorch that the kit uses where there is no cuda-python."""

import contextlib
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

gpu = importlib.import_module("fake_gpu")

__version__ = "0.standin"
float32 = np.float32


class Tensor:
    def __init__(self, address: int, shape: tuple[int, ...], array: Any = None) -> None:
        self.shape, self._address, self._array = shape, address, array

    def data_ptr(self) -> int:
        return self._address

    def copy_(self, other: "Tensor") -> None:
        assert self.shape == other.shape
        gpu.copy(self._address, other._address, 4 * int(np.prod(self.shape)))


def empty(shape: tuple[int, ...], dtype: Any, device: str) -> Tensor:
    assert (dtype, device) == (float32, "cuda")
    return Tensor(gpu.allocate(4 * int(np.prod(shape))), shape)


def from_numpy(array: Any) -> Tensor:
    return Tensor(int(array.ctypes.data), array.shape, array)


class Stream:
    cuda_stream = gpu.STREAM

    def synchronize(self) -> None:
        gpu.synchronize()


class Event:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.event = gpu.Event()

    def record(self, stream: Stream) -> None:
        self.event.record()

    def synchronize(self) -> None:
        gpu.synchronize()

    def elapsed_time(self, end: "Event") -> float:
        return float(end.event.since(self.event))


class CUDAGraph:
    thunks: list[Any]

    def replay(self) -> None:
        gpu.launch(self.thunks)


@contextlib.contextmanager
def graph(graph: CUDAGraph, stream: Stream) -> Iterator[None]:
    gpu.begin_capture()
    try:
        yield
    finally:
        graph.thunks = gpu.end_capture()
    if gpu.PLAN.get("graph") == "refused":
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


cuda = SimpleNamespace(
    is_available=lambda: bool(gpu.PLAN["gpus"]),
    set_device=lambda device: None,
    get_device_properties=lambda device: SimpleNamespace(
        name="No GPU, a stand-in", major=8, minor=9, uuid="00000000-0000-0000-0000-000000000000"
    ),
    Stream=Stream,
    Event=Event,
    CUDAGraph=CUDAGraph,
    graph=graph,
    stream=lambda stream: contextlib.nullcontext(),
)
