"""A stand-in for cuda-python's runtime API: functions of the real names, which give an error and then their results."""

import enum
import importlib
from types import SimpleNamespace
from typing import Any

gpu = importlib.import_module("fake_gpu")


class cudaError_t(enum.IntEnum):  # noqa: N801 - the real names
    cudaSuccess = 0  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


class cudaMemcpyKind(enum.IntEnum):  # noqa: N801
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class cudaStreamCaptureMode(enum.IntEnum):  # noqa: N801
    cudaStreamCaptureModeGlobal = 0  # noqa: N815


_OK = cudaError_t.cudaSuccess


def cudaGetErrorString(error: int) -> tuple[cudaError_t, bytes]:  # noqa: N802
    return _OK, f"stand-in error {int(error)}".encode()


def cudaGetDeviceCount() -> tuple[cudaError_t, int | None]:  # noqa: N802
    return (_OK, gpu.PLAN["gpus"]) if gpu.PLAN["gpus"] else (cudaError_t.cudaErrorInsufficientDriver, None)


def cudaSetDevice(device: int) -> tuple[cudaError_t]:  # noqa: N802
    assert device == 0
    return (_OK,)


def cudaGetDeviceProperties(device: int) -> tuple[cudaError_t, Any]:  # noqa: N802
    return _OK, SimpleNamespace(name=b"No GPU, a stand-in\0\0\0", major=8, minor=9)


def cudaDeviceGetPCIBusId(length: int, device: int) -> tuple[cudaError_t, bytes]:  # noqa: N802
    return _OK, b"0000:00:00.0\0"


def cudaRuntimeGetVersion() -> tuple[cudaError_t, int]:  # noqa: N802
    return _OK, 13000


def cudaStreamCreate() -> tuple[cudaError_t, int]:  # noqa: N802
    return _OK, gpu.STREAM


def cudaStreamSynchronize(stream: int) -> tuple[cudaError_t]:  # noqa: N802
    gpu.synchronize()
    return (_OK,)


def cudaMalloc(size: int) -> tuple[cudaError_t, int]:  # noqa: N802
    return _OK, gpu.allocate(size)


def cudaMemcpyAsync(  # noqa: N802
    dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: int
) -> tuple[cudaError_t]:
    assert isinstance(kind, cudaMemcpyKind)
    gpu.copy(dst, src, count)
    return (_OK,)


def cudaEventCreate() -> tuple[cudaError_t, Any]:  # noqa: N802
    return _OK, gpu.Event()


def cudaEventRecord(event: Any, stream: int) -> tuple[cudaError_t]:  # noqa: N802
    event.record()
    return (_OK,)


def cudaEventSynchronize(event: Any) -> tuple[cudaError_t]:  # noqa: N802
    gpu.synchronize()
    return (_OK,)


def cudaEventElapsedTime(start: Any, end: Any) -> tuple[cudaError_t, float]:  # noqa: N802
    return _OK, end.since(start)


def cudaStreamBeginCapture(stream: int, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:  # noqa: N802
    assert isinstance(mode, cudaStreamCaptureMode)
    gpu.begin_capture()
    return (_OK,)


def cudaStreamEndCapture(stream: int) -> tuple[cudaError_t, Any]:  # noqa: N802
    graph = gpu.end_capture()
    refused = gpu.PLAN.get("graph") == "refused"
    return (cudaError_t.cudaErrorStreamCaptureUnsupported, None) if refused else (_OK, graph)


def cudaGraphInstantiate(graph: Any, flags: int) -> tuple[cudaError_t, Any]:  # noqa: N802
    return _OK, graph


def cudaGraphLaunch(graph: Any, stream: int) -> tuple[cudaError_t]:  # noqa: N802
    gpu.launch(graph)
    return (_OK,)
