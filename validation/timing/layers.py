"""Where the time of a run goes, by the model's modules: measured by the runtime's own profiler.

    python -m validation.timing.layers RUNTIME FILE SETTINGS FEED

The runtime executes other operators than the file has: it fuses them, and puts conversions of memory layouts between
them. Each counts for the module whose name it bears, or whose tensor it makes; one that has neither counts for the next
that does, which needed it. A profiler costs time itself: the shares are what it is for.
"""

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.artifact import Artifact
from runtimes.runtime import Images
from validation.timing.alone import THREADS, answer, in_a_process
from validation.trial import ModuleTime

RUNS, _WARM_S = 20, 0.3
"""So many runs count, after others for so long: the first of a process are up to twice as slow."""
_OWN_WARM_UP = 5
"""Runs of a session before those that count, where another one has warmed up the processor."""
_MODULE = re.compile(r"stem|stage\d+\.(?:downsample|block\d+)(?:\.[a-z]+\d*)?|head")
_OUTPUTS = re.compile(r"logits|probabilities|embedding|scores|classes")
_NO_KERNEL = frozenset({"undef", "unknown", "reorder"})
"""How OpenVINO's kinds of execution begin of what is fused into another operator, or costs nothing."""
_CUT_OFF_NS = 500
"""OpenVINO cuts an operator's time to whole microseconds: so much is lost of each on average."""
_AROUND, _HEAD, _MODULES = "preprocessing", "head", "modules"

Executed = tuple[str, str, int]
"""An operator that ran: its name, the tensor that it makes or nothing, nanoseconds."""


def time_by_module(artifact: Artifact, images: Images, threads: int = 1) -> tuple[ModuleTime, ...]:
    """In the order in which they run; nothing where the runtime has no profiler that can be asked here.

    Raises:
        StageFailed: the process failed.
    """
    found = in_a_process(__name__, artifact, images, threads)
    return () if found is None else tuple(ModuleTime(*each) for each in found[_MODULES])


def by_module(executed: Iterable[Executed], makers: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """(module, nanoseconds, operators), in order. `makers`: the file's operator that makes a tensor."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    waiting: list[int] = []
    last = _AROUND
    for name, tensor, ns in executed:
        module = _module_of(name) or _module_of(makers.get(tensor, ""))
        waiting.append(ns)
        if module is None:
            continue
        totals[module][0] += sum(waiting)
        totals[module][1] += len(waiting)
        waiting, last = [], module
    if waiting:  # what follows the last module is its own
        totals[last][0] += sum(waiting)
        totals[last][1] += len(waiting)
    return [(module, ns, count) for module, (ns, count) in totals.items()]


def _module_of(name: str) -> str | None:
    if (match := _MODULE.search(name)) is not None:
        return match[0]
    return _HEAD if _OUTPUTS.match(name) else None


def _onnxruntime(path: Path, settings: Mapping[str, Any], images: Images) -> list[tuple[str, int, int]]:
    from runtimes.onnx.graph import load_onnx
    from runtimes.onnx.runtime import profiled_session, shipped_session

    with tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        # Its profile has every run in it: those that warm the processor up are thousands of a small network.
        threads = settings[THREADS["onnxruntime"]]
        plain, session = shipped_session(path, threads), profiled_session(path, threads, Path(scratch) / "profile")
        name = session.get_inputs()[0].name
        _warm_up(lambda: plain.run(None, {name: images}))
        for _ in range(_OWN_WARM_UP + RUNS):
            session.run(None, {name: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time")].append(int(event["dur"]) * 1000)
    makers = {output: node.name for node in load_onnx(path).graph.node for output in node.output}
    # What is fused into blocks of channels has the name of the tensor that it makes, and not an operator's.
    executed = ((name, name.removesuffix("_nchwc"), _middle(samples[-RUNS:])) for name, samples in times.items())
    return by_module(executed, makers)


def _openvino(path: Path, settings: Mapping[str, Any], images: Images) -> list[tuple[str, int, int]]:
    from runtimes.openvino.package import import_openvino

    compiled = import_openvino().Core().compile_model(path, "CPU", {**settings, "PERF_COUNT": True})
    request = compiled.create_infer_request()
    times: dict[str, list[int]] = defaultdict(list)
    _warm_up(lambda: request.infer({0: images}))
    for _ in range(RUNS):
        request.infer({0: images})
        for each in request.profiling_info:
            # Of an operator that takes less than a microsecond it says that it did not run.
            if each.status == each.Status.EXECUTED or each.exec_type.partition("_")[0] not in _NO_KERNEL:
                times[each.node_name].append(round(each.real_time.total_seconds() * 1e9) + _CUT_OFF_NS)
    return by_module(((name, "", _middle(samples)) for name, samples in times.items()), {})


def _warm_up(run: Callable[[], object]) -> None:
    end = time.perf_counter() + _WARM_S
    while time.perf_counter() < end:
        run()


def _middle(samples: Sequence[int]) -> int:
    return int(np.median(samples)) if samples else 0


def _measured(
    runtime: str, path: Path, settings: Mapping[str, Any], images: Images
) -> dict[str, list[tuple[str, int, int]]]:
    profile = {"onnxruntime": _onnxruntime, "openvino": _openvino}[runtime]
    return {_MODULES: profile(path, settings, images)}


if __name__ == "__main__":
    answer(_measured)
