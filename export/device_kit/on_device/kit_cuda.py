"""The little of CUDA that the kit needs, through cuda-python or else PyTorch: buffers, a stream, a clock, graphs.

Everything happens on one stream of the first GPU. What is only enqueued has not happened before `synchronize`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from kit_common import Record


class NoGpu(Exception):
    """There is no GPU, or nothing here can talk to it; the message says which."""


class CudaError(RuntimeError):
    """CUDA refused a call."""


def first_gpu() -> CudaPython | Torch:
    """The first GPU, by whichever package is installed.

    Raises:
        NoGpu: there is none, or neither package is installed.
    """
    reasons = []
    if _installed("cuda.bindings.runtime"):
        try:
            return CudaPython()
        except CudaError as error:
            reasons.append(f"cuda-python: {error}")
    if _installed("torch"):
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            return Torch(torch)
        reasons.append("torch: it sees no GPU")
    raise NoGpu("; ".join(reasons) or "neither cuda-python nor torch is installed: pip install cuda-python")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that has no such part, or is not there
        return False


class CudaPython:
    """Through `cuda.bindings.runtime`, every function of which gives an error and then its results."""

    def __init__(self) -> None:
        self._cuda = importlib.import_module("cuda.bindings.runtime")
        if not self._ask("cudaGetDeviceCount"):
            raise CudaError("it sees no GPU")
        self._ask("cudaSetDevice", 0)
        self._stream = self._ask("cudaStreamCreate")
        self._start, self._end = self._ask("cudaEventCreate"), self._ask("cudaEventCreate")

    def _ask(self, function: str, *arguments: Any) -> Any:
        error, *results = getattr(self._cuda, function)(*arguments)
        if int(error) != 0:
            said = self._cuda.cudaGetErrorString(error)[1]
            raise CudaError(f"{function}: {said.decode() if isinstance(said, bytes) else said}")
        return results[0] if results else None

    @property
    def name(self) -> str:
        """And the version of CUDA."""
        return f"cuda-python, CUDA runtime {_dotted(self._ask('cudaRuntimeGetVersion'))}"

    @property
    def stream(self) -> int:
        """Its handle."""
        return int(self._stream)

    def gpu(self) -> Record:
        """`name`, `compute_capability`, and by what nvidia-smi knows it."""
        properties = self._ask("cudaGetDeviceProperties", 0)
        bus = self._ask("cudaDeviceGetPCIBusId", 32, 0)
        return {
            "name": _text(properties.name),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "id": _text(bus),
        }

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        """Room for a float32 array of this shape."""
        size = 4 * math.prod(shape)
        address = int(self._ask("cudaMalloc", size))
        kinds = self._cuda.cudaMemcpyKind

        def upload(array: Any) -> None:
            source = array.ctypes.data
            self._ask("cudaMemcpyAsync", address, source, size, kinds.cudaMemcpyHostToDevice, self._stream)
            self.synchronize()  # or the array could be gone before it was read

        def download(array: Any) -> None:
            self._ask("cudaMemcpyAsync", array.ctypes.data, address, size, kinds.cudaMemcpyDeviceToHost, self._stream)
            self.synchronize()

        return Buffer(shape, address, upload, download)

    def synchronize(self) -> None:
        """Wait until everything on the stream has happened."""
        self._ask("cudaStreamSynchronize", self._stream)

    def elapsed_ns(self, launch: Callable[[], None]) -> int:
        """The time on the device between what is enqueued before and after `launch`."""
        self._ask("cudaEventRecord", self._start, self._stream)
        launch()
        self._ask("cudaEventRecord", self._end, self._stream)
        self._ask("cudaEventSynchronize", self._end)
        milliseconds: float = self._ask("cudaEventElapsedTime", self._start, self._end)
        return max(1, round(1e6 * milliseconds))

    def captured(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """What launches, as one graph, all that `enqueue` enqueues.

        Raises:
            CudaError: it cannot be captured.
        """
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal
        self._ask("cudaStreamBeginCapture", self._stream, mode)
        try:
            enqueue()
        finally:  # ended in any case: nothing else can be done on a stream while it is captured
            graph = self._ask("cudaStreamEndCapture", self._stream)
        ready = self._ask("cudaGraphInstantiate", graph, 0)

        def launch() -> None:
            self._ask("cudaGraphLaunch", ready, self._stream)

        return launch


class Torch:
    """Through PyTorch's tensors, streams, events and graphs."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        torch.cuda.set_device(0)
        self._stream = torch.cuda.Stream()
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    @property
    def name(self) -> str:
        """And its version."""
        return f"torch {self._torch.__version__}"

    @property
    def stream(self) -> int:
        """Its handle."""
        return int(self._stream.cuda_stream)

    def gpu(self) -> Record:
        """`name`, `compute_capability`, and by what nvidia-smi knows it."""
        properties = self._torch.cuda.get_device_properties(0)
        uuid = getattr(properties, "uuid", None)
        return {
            "name": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "id": "0" if uuid is None else f"GPU-{uuid}",
        }

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        """Room for a float32 array of this shape."""
        torch = self._torch
        with torch.cuda.stream(self._stream):
            tensor = torch.empty(shape, dtype=torch.float32, device="cuda")

        def upload(array: Any) -> None:
            with torch.cuda.stream(self._stream):
                tensor.copy_(torch.from_numpy(array))
            self.synchronize()

        def download(array: Any) -> None:
            with torch.cuda.stream(self._stream):
                torch.from_numpy(array).copy_(tensor)
            self.synchronize()

        return Buffer(shape, int(tensor.data_ptr()), upload, download)

    def synchronize(self) -> None:
        """Wait until everything on the stream has happened."""
        self._stream.synchronize()

    def elapsed_ns(self, launch: Callable[[], None]) -> int:
        """The time on the device between what is enqueued before and after `launch`."""
        self._start.record(self._stream)
        launch()
        self._end.record(self._stream)
        self._end.synchronize()
        milliseconds: float = self._start.elapsed_time(self._end)
        return max(1, round(1e6 * milliseconds))

    def captured(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """What launches, as one graph, all that `enqueue` enqueues.

        Raises:
            CudaError: it cannot be captured.
        """
        torch = self._torch
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                enqueue()
        except RuntimeError as error:
            raise CudaError(str(error)) from error

        def launch() -> None:
            with torch.cuda.stream(self._stream):
                graph.replay()

        return launch


class Buffer:
    """Room on the device for one float32 array."""

    def __init__(
        self,
        shape: tuple[int, ...],
        address: int,
        upload: Callable[[Any], None],
        download: Callable[[Any], None],
    ) -> None:
        self.shape, self.address = shape, address
        self._upload, self._download = upload, download

    def put(self, array: Any) -> None:
        """Copy an array of this shape to the device, and wait for it."""
        assert array.shape == self.shape
        self._upload(np.ascontiguousarray(array, np.float32))

    def get(self) -> Any:
        """What lies there, once everything before has happened."""
        array = np.empty(self.shape, np.float32)
        self._download(array)
        return array


def _text(value: Any) -> str:
    """C's strings end with their first zero."""
    return value.split(b"\0")[0].decode() if isinstance(value, bytes) else str(value)


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
