"""A file run in a process of its own, as an app runs it: what loading costs, the first run, and memory.

    python -m validation.timing.alone RUNTIME FILE SETTINGS FEED

The process that made a file has its runtime warm, its memory full and PyTorch loaded; an app has none of these.
Nothing is attested here: the verdict on the file says how it runs.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from efficientvit.errors import StageFailed, VitExportError
from runtimes.artifact import Artifact
from runtimes.host.machine import peak_rss_bytes
from runtimes.host.packages import same_packages
from runtimes.registry import native_runtime
from runtimes.runtime import Images
from validation.trial import Alone

Run = Callable[[Any], object]
Opener = Callable[[Path, Mapping[str, Any]], Run]

_STEADY_S, _LEAST = 0.3, 10
LIMIT_S = 600
"""Of one process."""

ERROR, _TOLD = "error", 300
_RESET_PEAK = "5"  # proc_pid_clear_refs(5)


def run_alone(artifact: Artifact, images: Images, threads: int = 1) -> Alone | None:
    """Load and run `artifact` with the settings that ship, in a new process; None where its runtime has no such way.

    `images`: a batch as the file takes it.

    Raises:
        StageFailed: the process failed.
    """
    found = in_a_process(__name__, artifact, images, threads)
    if found is None:
        return None
    return Alone(found["load_ns"], found["first_ns"], tuple(found["steady_ns"]), found["memory_bytes"])


def in_a_process(module: str, artifact: Artifact, images: Images, threads: int) -> Any:
    """What `python -m MODULE RUNTIME FILE SETTINGS FEED` prints last, as JSON; None where the runtime has no such way.

    Raises:
        StageFailed: the process failed.
    """
    runtime = native_runtime(artifact.format)
    if runtime.name not in THREADS:
        return None
    settings = {**runtime.shipped_settings(artifact), THREADS[runtime.name]: threads}
    with tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        feed = Path(scratch) / "feed.npy"
        np.save(feed, images)
        arguments = (runtime.name, str(artifact.path.resolve()), json.dumps(settings), str(feed))
        found = said([sys.executable, "-P", "-m", module, *arguments])
    if ERROR in found:
        raise StageFailed(
            f"{artifact.path.name} could not be run in a process of its own",
            expected="what it takes to run",
            got=found[ERROR],
            next_step="run `vit-export verify` on it; if that passes, free some memory and try again",
        )
    return found


def said(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the process printed last, as JSON, or `ERROR`: it failed, or did not end."""
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and a module of this package
            command, env=environment or same_packages(), capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return {ERROR: f"it did not end within {LIMIT_S} s"}
    if done.returncode != 0:
        return {ERROR: f"exit code {done.returncode}: {done.stderr.strip()[-_TOLD:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(measure: Callable[[str, Path, Mapping[str, Any], Images], Any]) -> None:
    """In that process: print what `measure` finds, or the error of this project that it raises."""
    try:
        found = measure(*_asked())
    except VitExportError as error:
        found = {ERROR: f"{error.what}: {error.got}"}
    print(json.dumps(found))  # noqa: T201


def _asked() -> tuple[str, Path, Mapping[str, Any], Images]:
    """In that process: runtime, file, settings, images."""
    _, runtime, path, settings, feed = sys.argv
    return runtime, Path(path), json.loads(settings), np.load(feed)


def _onnxruntime(path: Path, settings: Mapping[str, Any]) -> Run:
    from runtimes.onnx.runtime import shipped_session

    session = shipped_session(path, settings[THREADS["onnxruntime"]])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})


def _openvino(path: Path, settings: Mapping[str, Any]) -> Run:
    from runtimes.openvino.package import import_openvino

    run: Run = import_openvino().Core().compile_model(path, "CPU", settings)
    return run


_OPENERS: Mapping[str, Opener] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
THREADS = {"onnxruntime": "intra_op_num_threads", "openvino": "INFERENCE_NUM_THREADS"}


def _imported(runtime: str) -> None:
    """The runtime's package, which is no cost of the file."""
    if runtime == "openvino":
        from runtimes.openvino.package import import_openvino

        import_openvino().Core().get_versions("CPU")  # loads the plugin
        return
    from runtimes.onnx.runtime import own_errors

    assert own_errors(), "which imports ONNX Runtime"


def _measured(runtime: str, path: Path, settings: Mapping[str, Any], images: Images) -> dict[str, Any]:
    _imported(runtime)
    with suppress(OSError):  # where the kernel has none, the peak so far is the floor
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before = peak_rss_bytes()
    start = time.perf_counter_ns()
    run = _OPENERS[runtime](path, settings)
    loaded = time.perf_counter_ns()
    run(images)
    first = time.perf_counter_ns()
    steady: list[int] = []
    while len(steady) < _LEAST or time.perf_counter_ns() - first < _STEADY_S * 1e9:
        begun = time.perf_counter_ns()
        run(images)
        steady.append(time.perf_counter_ns() - begun)
    return {
        "load_ns": loaded - start,
        "first_ns": first - loaded,
        "steady_ns": steady,
        "memory_bytes": peak_rss_bytes() - before,
    }


if __name__ == "__main__":
    answer(_measured)
