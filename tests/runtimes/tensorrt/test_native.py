"""The engine runtime on a stand-in for the GPU: its control flow, and that nothing of it passes for a result here.

The stand-in keeps streams as queues that run when somebody waits for them, and computes by reading and writing the
addresses that were bound: a result read too early, a buffer of another shape or a graph of freed buffers shows.
"""

import ctypes
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from efficientvit.errors import StageFailed, Unavailable, VitExportError
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.host import gpu, packages
from runtimes.interface import INPUT, OUTPUT
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Attestation, Evidence, Mode
from runtimes.tensorrt import api
from runtimes.tensorrt import native as trt_engine
from runtimes.tensorrt.api import ENTERPRISE, RTX, Product
from runtimes.tensorrt.evaluated import TrtNetwork, load_network
from runtimes.tensorrt.native import TensorRt, built_by
from runtimes.tensorrt.operators import LAYERS
from validation.gates.result import GateResult
from validation.timing.latency import TimingPlan, benchmark
from validation.verdict import Built, Report, VerifiedArtifact

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

Images = NDArray[np.float32]
Compute = Callable[[Images], Images]

RUN_MS = 0.25
"""How long the stand-in takes for a run, by its own clock."""

SIZE, CLASSES, LARGEST_BATCH = 8, 10, 4


class Gpu:
    """Streams, events, graphs and memory, as far as the runtime uses them."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.streams: list[Stream] = []
        self.current: Stream | None = None
        self.graphs: list[Graph] = []
        self.runs = 0
        self.default = self.stream()  # copies go to it, and other streams do not wait for it

    def stream(self) -> "Stream":
        self.streams.append(Stream(len(self.streams) + 1))
        return self.streams[-1]

    def by_handle(self, handle: int) -> "Stream":
        return self.streams[handle - 1]

    def synchronize(self) -> None:
        for stream in self.streams:
            stream.synchronize()

    @contextmanager
    def using(self, stream: "Stream") -> Iterator[None]:
        self.current = stream
        yield
        self.current = None

    @contextmanager
    def capture(self, graph: "Graph", stream: "Stream") -> Iterator[None]:
        assert not stream.pending, "a stream is captured after its work is done"
        stream.captures = graph
        yield
        stream.captures = None

    def graph(self) -> "Graph":
        self.graphs.append(Graph(self))
        return self.graphs[-1]

    def event(self, *, enable_timing: bool) -> "Event":
        assert enable_timing
        return Event(self)


class Stream:
    """Work that waits until somebody waits for it."""

    def __init__(self, handle: int) -> None:
        self.cuda_stream = handle
        self.pending: list[Callable[[], object]] = []
        self.captures: Graph | None = None

    def enqueue(self, work: Callable[[], object]) -> None:
        (self.pending if self.captures is None else self.captures.work).append(work)

    def synchronize(self) -> None:
        while self.pending:
            self.pending.pop(0)()


class Graph:
    """What a stream was given while it was captured."""

    def __init__(self, device: Gpu) -> None:
        self._device = device
        self.work: list[Callable[[], object]] = []
        self.replays = 0

    def replay(self) -> None:
        assert self._device.current is not None
        self.replays += 1
        for work in self.work:
            self._device.current.enqueue(work)


class Event:
    """A time on the device's clock, once the stream has come to it."""

    def __init__(self, device: Gpu) -> None:
        self._device, self._stream = device, device.current
        self.at_ms: float | None = None

    def record(self) -> None:
        self._stream = self._device.current
        assert self._stream is not None

        def come() -> None:
            self.at_ms = self._device.now_ms

        self._stream.enqueue(come)

    def synchronize(self) -> None:
        assert self._stream is not None
        self._stream.synchronize()

    def elapsed_time(self, other: "Event") -> float:
        assert self.at_ms is not None and other.at_ms is not None, "nobody waited for the events"  # noqa: PT018
        return other.at_ms - self.at_ms


def _at(address: int, shape: tuple[int, ...]) -> Images:
    """The float32 numbers that lie at an address."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


class Engine:
    """An engine that takes batches up to LARGEST_BATCH."""

    def __init__(self, device: Gpu, compute: Compute, size: int, classes: int) -> None:
        self.device, self.compute = device, compute
        self.image, self.logits = (3, size, size), (classes,)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self.image if name == INPUT else self.logits))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == (INPUT, 0)
        return [(batch, *self.image) for batch in (1, 2, LARGEST_BATCH)]

    def create_execution_context(self) -> "Context | None":
        return Context(self)


class Context:
    """Runs the engine on the bound addresses."""

    works = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batch = 0
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name != INPUT or shape[1:] != self._engine.image or shape[0] > LARGEST_BATCH:
            return False
        self._batch = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._batch, *self._engine.get_tensor_shape(name)[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        device, batch, addresses = self._engine.device, self._batch, dict(self.addresses)

        def work() -> None:
            image = _at(addresses[INPUT], (batch, *self._engine.image))
            _at(addresses[OUTPUT], (batch, *self._engine.logits))[:] = self._engine.compute(image)
            device.now_ms += RUN_MS
            device.runs += 1

        device.by_handle(handle).enqueue(work)
        return self.works


RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
HEAD = RNG.standard_normal((4 * SIZE * SIZE, CLASSES)).astype(np.float32)


def _model() -> onnx.ModelProto:
    """A convolution, a relu and a classifier over any number of images."""
    nodes = [
        helper.make_node("Conv", [INPUT, "kernel"], ["c"], pads=[1, 1, 1, 1], name="stem.conv1/Conv"),
        helper.make_node("Relu", ["c"], ["r"], name="stem.relu1/Relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="head/Flatten"),
        helper.make_node("Gemm", ["f", "head"], [OUTPUT], name="head.linear/Gemm"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value(INPUT, onnx.TensorProto.FLOAT, ("batch", 3, SIZE, SIZE))],
        [value(OUTPUT, onnx.TensorProto.FLOAT, ("batch", CLASSES))],
        [numpy_helper.from_array(KERNEL, "kernel"), numpy_helper.from_array(HEAD, "head")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def images() -> Images:
    """Five distinct ones."""
    return np.random.default_rng(1).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def expected(images: Images) -> Images:
    """What PyTorch says of them."""
    features = torch.conv2d(torch.tensor(images), torch.tensor(KERNEL), padding=1).relu()
    return (features.flatten(1) @ torch.tensor(HEAD)).numpy()


@pytest.fixture
def engine_artifact(tmp_path: Path) -> Artifact:
    """What lies in a folder: something that calls itself an engine, and the typed file beside it."""
    onnx.save(_model(), tmp_path / "model.onnx")
    (tmp_path / "model.engine").write_bytes(b"an engine")
    half = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
    spec = model_spec("m0")  # the runtime does not look at it
    made = Artifact.on_disk(tmp_path / "model.engine", Format.ENGINE, spec, made_by="build", batch=None, precision=half)
    return replace(made, settings=(("product", RTX), ("sm", "89"), ("tf32", "off")))


@pytest.fixture
def device() -> Gpu:
    return Gpu()


@pytest.fixture
def engine(device: Gpu, engine_artifact: Artifact) -> Engine:
    """Computes as the parsed network does."""
    program = load_network(engine_artifact)
    (image,), (logits,) = program.inputs, program.outputs
    evaluator = Evaluator(program, Arithmetic.FLOAT32, language=LAYERS)

    def compute(images: Images) -> Images:
        result: Images = evaluator({image: torch.tensor(images)})[logits].numpy()
        return result

    return Engine(device, compute, SIZE, CLASSES)


@pytest.fixture
def stand_in(device: Gpu, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A host with one GPU and a product that gives `engine` for the bytes of `engine_artifact`."""
    empty = torch.empty

    def allocated(*shape: Any, device: str = "cpu", **options: Any) -> torch.Tensor:
        del device
        return empty(*shape, **options).fill_(float("nan"))

    copy = torch.Tensor.copy_

    def copied(self: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        device.default.enqueue(lambda: copy(self, source))
        return self

    cuda = {
        "Stream": device.stream,
        "stream": device.using,
        "synchronize": device.synchronize,
        "CUDAGraph": device.graph,
        "graph": device.capture,
        "Event": device.event,
        "get_device_properties": lambda index: SimpleNamespace(name="Stand-in", major=8, minor=9 + index),
    }
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "empty", allocated)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "cuda", torch.Tensor.clone)
    monkeypatch.setattr(torch.Tensor, "cpu", torch.Tensor.clone)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if plan == b"an engine":
                return engine
            self._logger.log(SimpleNamespace(name="ERROR"), "built by another version")
            return None

    module = SimpleNamespace(ILogger=tensorrt_rtx.ILogger, Runtime=Runtime, __version__="1.7")
    monkeypatch.setattr(trt_engine, "count_gpus", lambda: 1)
    monkeypatch.setattr(trt_engine, "product", lambda name: Product(name, module))
    return module


pytestmark = pytest.mark.usefixtures("no_smi")


@pytest.fixture
def no_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.mark.usefixtures("stand_in")
def test_logits_are_the_engines_at_every_batch(engine_artifact: Artifact, images: Images, expected: Images) -> None:
    with TensorRt().open(engine_artifact) as session:
        for rows in ([0], [1], [3, 1, 2], [4, 0], [2], [0, 1, 2, 3]):
            np.testing.assert_allclose(session(images[rows])["logits"], expected[rows], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("stand_in")
def test_a_result_is_not_overwritten_by_the_next(engine_artifact: Artifact, images: Images) -> None:
    with TensorRt().open(engine_artifact) as session:
        first = session(images[:1])["logits"]
        kept = first.copy()
        session(images[1:2])
    assert np.array_equal(first, kept)


@pytest.mark.usefixtures("stand_in")
def test_a_batch_beyond_the_profile_is_a_failure_that_names_both(engine_artifact: Artifact, images: Images) -> None:
    with TensorRt().open(engine_artifact) as session:
        with pytest.raises(StageFailed, match="does not take such a batch") as failed:
            session(images[:5])
        assert f"(4, 3, {SIZE}, {SIZE})" in str(failed.value.expected)
        assert failed.value.got == f"(5, 3, {SIZE}, {SIZE})"
        assert session(images[:4])["logits"].shape == (4, CLASSES)  # and it goes on


@pytest.mark.usefixtures("stand_in")
def test_a_run_that_is_refused_is_a_failure(
    engine_artifact: Artifact, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "works", False)
    with TensorRt().open(engine_artifact) as session:
        with pytest.raises(StageFailed, match="could not be run"):
            session(images[:1])
        with pytest.raises(StageFailed, match="could not be run"):
            session.timed_ns(images[:1])


@pytest.mark.usefixtures("stand_in")
def test_an_engine_of_another_version_is_refused_with_the_remedy(engine_artifact: Artifact) -> None:
    engine_artifact.path.write_bytes(b"another engine")
    says = r"tensorrt-rtx 1\.7 refuses model\.engine"
    with pytest.raises(StageFailed, match=says) as failed, TensorRt().open(engine_artifact):
        pass
    assert failed.value.got == "built by another version"
    assert "typed ONNX file beside it" in str(failed.value.next_step)


@pytest.mark.usefixtures("stand_in")
def test_no_context_is_a_failure(engine_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library gives where the GPU has no memory left."""
    monkeypatch.setattr(Engine, "create_execution_context", lambda _: None)
    with pytest.raises(StageFailed, match="no context to run in"), TensorRt().open(engine_artifact):
        pass


@pytest.mark.usefixtures("stand_in")
def test_times_are_the_devices_own_around_a_graph(engine_artifact: Artifact, images: Images, device: Gpu) -> None:
    with TensorRt().open(engine_artifact) as session:
        assert [session.timed_ns(images[:1]) for _ in range(3)] == [RUN_MS * 1e6] * 3
    (graph,) = device.graphs
    assert graph.replays == 3
    assert device.runs == 3 + 3  # what is lazy is done before the capture, which itself runs nothing


@pytest.mark.usefixtures("stand_in")
def test_a_graph_goes_with_the_buffers_it_was_captured_on(
    engine_artifact: Artifact, images: Images, device: Gpu
) -> None:
    with TensorRt().open(engine_artifact) as session:
        session.timed_ns(images[:1])
        session.timed_ns(images[:2])
        session.timed_ns(images[2:4])
        session(images[:1])
        session.timed_ns(images[:1])
    assert [graph.replays for graph in device.graphs] == [1, 2, 1]


@pytest.mark.usefixtures("stand_in")
def test_a_timed_run_computes_on_the_images_it_is_given(
    engine_artifact: Artifact, images: Images, expected: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed on the buffer that the images were copied into, not on those of the capture."""
    seen: list[Any] = []
    original = trt_engine._Device.timed_ns

    def watched(self: Any, given: Any) -> int:
        taken = original(self, given)
        seen.append(self._given["logits"].clone().numpy())
        return taken

    monkeypatch.setattr(trt_engine._Device, "timed_ns", watched)
    with TensorRt().open(engine_artifact) as session:
        for row in (0, 3):
            session.timed_ns(images[[row]])
    np.testing.assert_allclose(np.concatenate(seen), expected[[0, 3]], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("stand_in")
def test_the_session_says_what_it_ran_on(engine_artifact: Artifact) -> None:
    with TensorRt().open(engine_artifact) as session:
        attestation = session.attestation
    assert (attestation.runtime, attestation.version, attestation.isa) == ("tensorrt", "1.7", "sm_89")
    assert attestation.precision is Dtype.FP16
    settings = attestation.settings
    assert settings["gpu"] == "Stand-in"
    assert (settings["product"], settings["sm"], settings["tf32"]) == (RTX, "89", "off")
    assert settings["driver"] == "unknown"  # without nvidia-smi
    with pytest.raises(VitExportError, match="closed"):
        session(np.zeros((1, 3, SIZE, SIZE), np.float32))


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$1"\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    assert trt_engine._asked("clocks.sm") == "--query-gpu=clocks.sm"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert trt_engine._asked("clocks.sm") == "unknown"


@pytest.mark.usefixtures("stand_in")
def test_what_the_network_says_is_the_evaluators_to_tell(
    engine_artifact: Artifact, images: Images, device: Gpu
) -> None:
    """An engine has no switch for float32 arithmetic."""
    with TensorRt().open(engine_artifact, Mode.ORACLE) as session:
        assert session.attestation.runtime == "trt-network"
        assert session.attestation.precision is Dtype.FP32
        session(images[:1])
        assert session.peaks
    assert device.runs == 0


def test_an_engine_is_run_by_what_built_it(engine_artifact: Artifact) -> None:
    assert built_by(engine_artifact) == RTX
    assert built_by(replace(engine_artifact, settings=(("product", ENTERPRISE),))) == ENTERPRISE
    assert built_by(replace(engine_artifact, settings=())) == RTX
    assert TensorRt().shipped_settings(engine_artifact) == {"product": RTX, "sm": "89", "tf32": "off"}


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (trt_engine, api):
        monkeypatch.setattr(module, "count_gpus", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_says_why_and_what_to_do(engine_artifact: Artifact) -> None:
    reason = TensorRt().unavailable()
    assert reason is not None
    assert "NVIDIA GPU" in reason
    for mode in Mode:
        with pytest.raises(Unavailable, match="cannot be run here") as refused, TensorRt().open(engine_artifact, mode):
            pass
        assert refused.value.got == reason
        assert "on a host with a GPU" in str(refused.value.next_step)


def test_with_a_gpu_and_without_the_package_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_engine, "count_gpus", lambda: 1)
    assert TensorRt().unavailable() is None
    for module in (api, packages):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert "[tensorrt]" in str(TensorRt().unavailable())


def test_the_real_library_refuses_what_is_no_engine(engine_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_engine, "count_gpus", lambda: 1)
    with pytest.raises(StageFailed, match=r"refuses model\.engine") as failed, TensorRt().open(engine_artifact):
        pass
    assert failed.value.got
    assert failed.value.got != "no reason given"


class Driver:
    """A stand-in for libcuda."""

    def __init__(self, init: int, asked: int, count: int) -> None:
        self._init, self._asked, self._count = init, asked, count

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name for it
        assert flags == 0
        return self._init

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._count
        return self._asked

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13010
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = f"GPU {device.value}".encode()
        assert size == len(name)
        return 0

    def cuDeviceGetUuid(self, uuid: Any, device: Any) -> int:  # noqa: N802
        uuid[:] = [device.value] * len(uuid)
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8 + device.value, 76: 9 if device.value == 0 else 0}[attribute]
        return 0


@pytest.mark.parametrize(
    ("driver", "count"),
    [(Driver(0, 0, 2), 2), (Driver(0, 0, 0), 0), (Driver(100, 0, 2), 0), (Driver(0, 3, 2), 0), (None, 0)],
    ids=["two", "none", "no device", "not initialized", "no driver"],
)
def test_gpus_are_counted_by_the_driver(driver: Driver | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(name: str) -> Driver:
        assert "cuda" in name
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(ctypes, "CDLL", loaded)
    expected = tuple(f"GPU {index} {f'{index:02x}' * 16}, driver 13010" for index in range(count))
    assert gpu.gpus.__wrapped__() == expected
    monkeypatch.setattr(gpu, "gpus", lambda: expected)
    assert gpu.compute_capabilities.__wrapped__() == (89, 90)[:count]


PASSED = GateResult("structure", 0, 1, "")


def _report(artifact: Artifact, evidence: Evidence) -> Report:
    attestation = Attestation("tensorrt", "1.7", Dtype.FP16, 0, "sm_89")
    return Report(artifact.sha256, evidence, attestation, (PASSED,), (1,), None)


PLAN = TimingPlan(warm_up_s=0, measure_s=0, least_samples=1)
IMAGE = np.zeros((1, 3, SIZE, SIZE), np.float32)


@pytest.mark.usefixtures("no_gpu")
def test_no_latency_can_come_of_a_host_without_a_gpu(engine_artifact: Artifact) -> None:
    built = Built(engine_artifact, _report(engine_artifact, Evidence.REFERENCE), "no GPU", "run it there")
    assert get_type_hints(benchmark)["verified"] is VerifiedArtifact
    assert not isinstance(built, VerifiedArtifact)
    with pytest.raises(VitExportError, match="never timed"):  # who asks in spite of the types
        benchmark(built, TensorRt(), PLAN, IMAGE)  # type: ignore[arg-type]
    evaluated = VerifiedArtifact(engine_artifact, _report(engine_artifact, Evidence.REFERENCE))
    for runtime in (TensorRt(), TrtNetwork()):
        with pytest.raises(VitExportError, match="never timed"):
            benchmark(evaluated, runtime, PLAN, IMAGE)
    # A verdict of a GPU host that was carried here.
    native = VerifiedArtifact(engine_artifact, _report(engine_artifact, Evidence.NATIVE))
    with pytest.raises(VitExportError, match="never timed"):
        benchmark(native, TrtNetwork(), PLAN, IMAGE)
    with pytest.raises(Unavailable, match="cannot be run here"):
        benchmark(native, TensorRt(), PLAN, IMAGE)


@pytest.mark.usefixtures("stand_in")
def test_on_a_gpu_the_latency_is_the_devices(engine_artifact: Artifact) -> None:
    native = VerifiedArtifact(engine_artifact, _report(engine_artifact, Evidence.NATIVE))
    timing = benchmark(native, TensorRt(), PLAN, IMAGE)
    assert set(timing.samples_ns) == {int(RUN_MS * 1e6)}
    assert timing.attestation.settings["gpu"] == "Stand-in"


@pytest.mark.usefixtures("stand_in")
def test_what_was_verified_by_another_version_is_not_timed(engine_artifact: Artifact, stand_in: Any) -> None:
    native = VerifiedArtifact(engine_artifact, _report(engine_artifact, Evidence.NATIVE))
    stand_in.__version__ = "1.8"
    with pytest.raises(VitExportError, match="not what was verified"):
        benchmark(native, TensorRt(), PLAN, IMAGE)


def test_who_was_only_built_passed_and_not_by_running(engine_artifact: Artifact) -> None:
    def built(report: Report) -> Built:
        return Built(engine_artifact, report, "no GPU", "run it there")

    passed = _report(engine_artifact, Evidence.REFERENCE)
    assert built(passed).report is passed
    assert built(replace(passed, evidence=Evidence.BUILT)).report.evidence is Evidence.BUILT
    with pytest.raises(VitExportError, match="not by running it"):
        built(_report(engine_artifact, Evidence.NATIVE))
    for gates in ((), (PASSED, GateResult("constants", 1, 0, "")), (replace(PASSED, worst=np.nan),)):
        with pytest.raises(VitExportError, match="passed its gates"):
            built(replace(passed, gates=gates))
    with pytest.raises(VitExportError, match="not about what"):
        built(replace(passed, artifact_sha256="0" * 64))
    source = replace(engine_artifact, source_sha256="1" * 64)
    assert Built(source, replace(passed, artifact_sha256="1" * 64), "no GPU", "run it there").artifact is source
