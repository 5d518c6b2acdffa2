"""A TensorRT engine on the GPU that it was built for. Written to NVIDIA's documentation; no GPU was at hand to run it.

Buffers are torch tensors on the device. TensorRT has no switch for float32 arithmetic in a built engine, so what the
network specifies (Mode.ORACLE) is left to the evaluator, from the typed ONNX file beside the engine.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from efficientvit.errors import StageFailed, Unavailable
from runtimes.artifact import Artifact
from runtimes.host.gpu import count_gpus
from runtimes.host.machine import this_host
from runtimes.interface import INPUT
from runtimes.runtime import Array, Attestation, Evidence, Images, Mode, Session, Values
from runtimes.session import OpenSession
from runtimes.tensorrt.api import ENTERPRISE, RTX, Product, engine_logger, product
from runtimes.tensorrt.evaluated import TrtNetwork

_GRAPH_WARM_UP = 3
"""Runs before a CUDA graph is captured: NVIDIA's documentation asks for one, which allocates what is lazy."""


class TensorRt:
    """Runs .engine files through the product that built them."""

    name = "tensorrt"
    evidence = Evidence.NATIVE

    def unavailable(self) -> str | None:
        """None on a host with an NVIDIA GPU and either product; else the reason and the remedy."""
        if count_gpus() == 0:
            return "an engine runs on an NVIDIA GPU only, and this host shows none"
        return TrtNetwork().unavailable()

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """What an engine runs under is fixed in it; this is what it was built with."""
        return dict(artifact.settings)

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `artifact`, on the first GPU, in a stream of its own. `threads` means nothing to it.

        Raises:
            Unavailable: there is no GPU, or the product is not installed.
            StageFailed: the engine is of another version or for another GPU.
        """
        if (reason := self.unavailable()) is not None:
            raise Unavailable(
                "the engine cannot be run here", got=reason, next_step="run `vit-export verify` on a host with a GPU"
            )
        if mode is Mode.ORACLE:
            with TrtNetwork().open(artifact, mode, threads) as session:
                yield session
            return
        with closing(_session(artifact)) as session:
            yield session


def built_by(artifact: Artifact) -> str:
    """The product that an engine needs."""
    return ENTERPRISE if dict(artifact.settings).get("product") == ENTERPRISE else RTX


def _session(artifact: Artifact) -> OpenSession:
    import torch

    using = product(built_by(artifact))
    device = _Device(artifact, using)

    def run(images: Array) -> Values:
        return device.run(torch.from_numpy(images).cuda())

    def timed_ns(images: Images) -> int:
        return device.timed_ns(torch.from_numpy(np.asarray(images)).cuda())

    shape = tuple(None if size == -1 else size for size in device.engine.get_tensor_shape(INPUT))
    properties = torch.cuda.get_device_properties(0)
    attestation = Attestation(
        runtime="tensorrt",
        version=using.version,
        precision=artifact.precision.execution,
        threads=0,
        isa=f"sm_{properties.major}{properties.minor}",
        settings={
            "product": using.name,
            "gpu": properties.name,
            "driver": _asked("driver_version"),
            "clocks.sm": _asked("clocks.sm"),
            "clocks.max.sm": _asked("clocks.max.sm"),
            "host": this_host().isa,
            **{key: str(value) for key, value in artifact.settings},
        },
    )
    return OpenSession(attestation, shape, run, timed_ns=timed_ns)


class _Device:
    """An engine, its context, its buffers and its stream. The order in which they are made is the order they need."""

    def __init__(self, artifact: Artifact, using: Product) -> None:
        import torch

        self._torch = torch
        self._outputs = [output.name for output in artifact.model.outputs]
        self._logger, self._messages = engine_logger(using)
        runtime = using.trt.Runtime(self._logger)
        engine = runtime.deserialize_cuda_engine(artifact.path.read_bytes())
        if engine is None:
            raise StageFailed(
                f"{using.name} {using.version} refuses {artifact.path.name}",
                got=self._messages.errors(),
                next_step="an engine runs with the version that built it, on the GPUs it was built for: build it again "
                "on this host from the typed ONNX file beside it",
            )
        self._runtime, self.engine = runtime, engine
        self._context = engine.create_execution_context()
        if self._context is None:
            raise StageFailed(
                f"{using.name} {using.version} gives {artifact.path.name} no context to run in",
                got=self._messages.errors(),
                next_step="an engine needs memory on the GPU: stop what else runs there",
            )
        self._stream = torch.cuda.Stream()
        self._bound: tuple[int, ...] = ()
        self._image = torch.empty(0)
        self._given: dict[str, Any] = {}
        self._graph: Any = None

    def run(self, images: Any) -> Values:
        """(B, 3, H, W) on the device -> the outputs on the host; the stream is synchronized on return."""
        self._bind(images)
        self._enqueue()
        self._stream.synchronize()
        return {name: given.cpu().numpy() for name, given in self._given.items()}

    def timed_ns(self, images: Any) -> int:
        """One run by CUDA events around the launch of a captured graph: the device's own time, without the copies."""
        self._bind(images)
        torch = self._torch
        if self._graph is None:
            for _ in range(_GRAPH_WARM_UP):
                self._enqueue()
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                self._enqueue()
            self._graph = graph
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self._stream):
            start.record()
            self._graph.replay()
            end.record()
        end.synchronize()
        return int(start.elapsed_time(end) * 1e6)

    def _bind(self, images: Any) -> None:
        """Buffers for this shape; a graph holds their addresses, so that it goes with them."""
        shape = tuple(images.shape)
        if shape != self._bound:
            if not self._context.set_input_shape(INPUT, shape):
                raise StageFailed(
                    "the engine does not take such a batch",
                    expected=str(self.engine.get_tensor_profile_shape(INPUT, 0)),
                    got=str(shape),
                )
            self._image = self._torch.empty(shape, dtype=self._torch.float32, device="cuda")
            self._context.set_tensor_address(INPUT, self._image.data_ptr())
            for name in self._outputs:
                sizes = tuple(self._context.get_tensor_shape(name))
                self._given[name] = self._torch.empty(sizes, dtype=self._torch.float32, device="cuda")
                self._context.set_tensor_address(name, self._given[name].data_ptr())
            self._bound, self._graph = shape, None
        self._image.copy_(images)
        self._torch.cuda.synchronize()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise StageFailed(
                "the engine could not be run",
                got=self._messages.errors(),
            )


def _asked(what: str) -> str:
    """One property of the first GPU, of nvidia-smi; `unknown` where it is not there."""
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, f"--query-gpu={what}", "--format=csv,noheader", "--id=0"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip() or "unknown"
