"""ONNX Runtime on the CPU."""

import platform
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact, StageFailed
from runtimes.artifact import Artifact
from runtimes.host.machine import this_host, version
from runtimes.host.packages import in_one_sentence, missing
from runtimes.interface import takes_images
from runtimes.onnx.graph import load_onnx, widened
from runtimes.onnx.qdq import is_quantized, without_quantizers
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Evidence, Mode, Session, Values
from runtimes.session import OpenSession, refused_by, session_of

_NEEDS = ("onnxruntime", None, "running an ONNX file")
_FATAL_ONLY = 4  # what is an error to it reaches the caller as an exception
_INPUTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}

# By the names of the SessionOptions attributes and of the session's configuration keys. No spinning: idle
# workers that burn a core would disturb whatever is measured, or runs, beside this session.
_SPINNING = "session.intra_op.allow_spinning"
_SHIPPED: Mapping[str, Any] = {
    "graph_optimization_level": "ORT_ENABLE_ALL",
    "execution_mode": "ORT_SEQUENTIAL",
    "inter_op_num_threads": 1,
    _SPINNING: "0",
}
_ORACLE: Mapping[str, Any] = {**_SHIPPED, "graph_optimization_level": "ORT_DISABLE_ALL"}

_KERNELS: dict[tuple[Path, int, int, Mode, bool], Counter[str]] = {}


class OnnxRuntime:
    """Runs ONNX files on ONNX Runtime's CPU provider.

    Args:
        optimized: False for a file that is made for another runtime: its graph optimizations are off in every mode.
    """

    name = "onnxruntime"
    evidence = Evidence.NATIVE

    def __init__(self, *, optimized: bool = True) -> None:
        self._optimized = optimized

    def unavailable(self) -> str | None:
        """None: the package comes with every install of this project, unless someone removed it."""
        return in_one_sentence(missing(*_NEEDS))

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """The same for every file: all graph optimizations, one operator at a time, no spinning."""
        return dict(_SHIPPED if self._optimized else _ORACLE)

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `artifact`; in Mode.ORACLE in float32 arithmetic and without graph optimizations.

        Raises:
            Unavailable: onnxruntime is not installed.
            StageFailed: ONNX Runtime refuses the file, or it does not take one image.
        """
        if (error := missing(*_NEEDS)) is not None:
            raise error
        images = takes_images(artifact)
        with closing(_session(artifact.path, mode, threads, optimized=self._optimized, images=images)) as session:
            yield session


def _session(path: Path, mode: Mode, threads: int, *, optimized: bool, images: bool) -> OpenSession:
    errors = own_errors()
    try:
        stored = _stored_dtypes(path)
    except BrokenArtifact:
        if mode is not Mode.ORACLE:  # ONNX Runtime says what is wrong with it
            _opened(path, path.name, mode, threads, optimized=optimized)
        raise
    if "INT8" in stored and mode is not Mode.ORACLE:
        session, integer = _with_kernels(path, mode, threads, optimized=optimized)
    else:
        session, integer = (
            _opened(_source(path, mode, stored), path.name, mode, threads, optimized=optimized),
            Counter(),
        )
    takes, gives = session.get_inputs(), session.get_outputs()
    if len(takes) != 1 or takes[0].type not in _INPUTS:
        raise StageFailed(
            f"{path.name} is not a model of images",
            expected="one input of float32, float16 or uint8",
            got=f"inputs {[(port.name, port.type) for port in takes]}",
            next_step="export the model with the image as its only input",
        )
    name, dtype, outputs = takes[0].name, _INPUTS[takes[0].type], [port.name for port in gives]

    def run(fed: Array | NDArray[np.uint8]) -> Values:
        with refused_by("ONNX Runtime", f"{path.name} on images {fed.shape}", errors):
            found = session.run(outputs, {name: fed.astype(dtype, copy=False)})
        return dict(zip(outputs, found, strict=True))

    shape = tuple(size if isinstance(size, int) else None for size in takes[0].shape)
    return session_of(_attest(session, stored, integer), shape, run, images=images)


def shipped_session(model: bytes | Path, threads: int = 1) -> Any:
    """ONNX Runtime's own session on a file, or on a model in memory, with the settings that ship."""
    what = model.name if isinstance(model, Path) else "the model in memory"
    return _opened(model, what, Mode.SHIPPED, threads, optimized=True)


def profiled_session(path: Path, threads: int, prefix: Path) -> Any:
    """The same on a file, with its profiler on; `end_profiling()` gives the file that begins with `prefix`."""
    return _opened(path, path.name, Mode.SHIPPED, threads, optimized=True, profile=prefix)


def oracle_session(model: bytes) -> Any:
    """The same without graph optimizations: quantizers are computed as they are, and it opens several times faster."""
    return _opened(model, "the model in memory", Mode.ORACLE, 1, optimized=False)


def _opened(
    source: Path | bytes,
    what: str,
    mode: Mode,
    threads: int,
    *,
    optimized: bool,
    profile: Path | None = None,
    fused: Path | None = None,
) -> Any:
    """`fused`: where it writes what the graph optimizations made of the model."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL_ONLY)  # or probing for a GPU is reported on stderr
    onnxruntime.disable_telemetry_events()
    options = _options(onnxruntime, mode, threads, optimized=optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if fused is not None:
        options.optimized_model_filepath = str(fused)
    with refused_by("ONNX Runtime", what, own_errors()):
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def own_errors() -> list[type[Exception]]:
    """What ONNX Runtime raises; its kinds have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    kinds = [kind for kind in vars(native).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, Exception)]


def _source(path: Path, mode: Mode, stored: Collection[str]) -> Path | bytes:
    """The file itself; for the oracle, one of float16 or int8 put into float32 arithmetic."""
    if mode is not Mode.ORACLE or not {"FLOAT16", "INT8"} & set(stored):
        return path

    model = load_onnx(path)
    return bytes((without_quantizers(model) if is_quantized(model) else widened(model)).SerializeToString())


def _options(onnxruntime: Any, mode: Mode, threads: int, *, optimized: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    if mode is Mode.DEFAULTS:
        return options
    settings = _ORACLE if mode is Mode.ORACLE or not optimized else _SHIPPED
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, settings["graph_optimization_level"])
    options.execution_mode = getattr(onnxruntime.ExecutionMode, settings["execution_mode"])
    options.inter_op_num_threads = settings["inter_op_num_threads"]
    options.intra_op_num_threads = threads
    options.add_session_config_entry(_SPINNING, settings[_SPINNING])
    return options


def _attest(session: Any, stored: Counter[str], integer: Counter[str]) -> Attestation:
    options = session.get_session_options()
    # ONNX Runtime does not report its arithmetic. On x86 its CPU kernels are float32: it casts around
    # float16 operators and drops the casts that cancel out. On 64-bit Arm it has float16 kernels of its own.
    native_fp16 = "FLOAT16" in stored and platform.machine() in ("arm64", "aarch64")
    return Attestation(
        runtime="onnxruntime",
        version=version("onnxruntime"),
        precision=Dtype.INT8 if integer else Dtype.FP16 if native_fp16 else Dtype.FP32,
        threads=options.intra_op_num_threads,
        isa=this_host().isa,
        settings={
            "providers": ", ".join(session.get_providers()),
            "graph_optimization_level": options.graph_optimization_level.name,
            "execution_mode": options.execution_mode.name,
            "inter_op_num_threads": str(options.inter_op_num_threads),
            _SPINNING: _entry(options, _SPINNING),
            **({"kernels": ", ".join(f"{count} {kind}" for kind, count in integer.most_common())} if integer else {}),
            "initializers": ", ".join(f"{count} {dtype}" for dtype, count in stored.most_common()),
        },
    )


def _with_kernels(path: Path, mode: Mode, threads: int, *, optimized: bool) -> tuple[Any, Counter[str]]:
    """A session on a Q/DQ file, and `_integer_kernels`: of the file as it lies there (its time and size), found once.

    The first session writes what it made of the file. Later ones, which are timed, are opened as an app opens them.
    """
    state = path.stat()
    key = (path, state.st_mtime_ns, state.st_size, mode, optimized)
    if key in _KERNELS:
        return _opened(path, path.name, mode, threads, optimized=optimized), _KERNELS[key]
    with tempfile.TemporaryDirectory() as scratch:
        fused = Path(scratch) / "fused.onnx"
        session = _opened(path, path.name, mode, threads, optimized=optimized, fused=fused)
        _KERNELS[key] = _integer_kernels(fused)
    return session, _KERNELS[key]


def _integer_kernels(fused: Path) -> Counter[str]:
    """The operators of a Q/DQ file as ONNX Runtime fused it; none if none of them computes in integers."""
    found = Counter(node.op_type for node in load_onnx(fused, weights=False).graph.node)
    return found if any(kind.startswith("QLinear") for kind in found) else Counter()


def _entry(options: Any, key: str) -> str:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:  # never set
        return "default"


def _stored_dtypes(path: Path) -> Counter[str]:
    import onnx

    graph = load_onnx(path, weights=False).graph
    return Counter(onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer)
