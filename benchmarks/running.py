"""What running costs, as `vit-export` measures it and as the runtimes' own tools do, in turns.

    vit-export export m0 m5 -t onnx,openvino -p fp32 -o OUT && python -m benchmarks.running OUT/* [--rounds N]

OpenVINO's tool is `benchmark_app`; ONNX Runtime's wheel has none, so that its twin here is the program that its
documentation shows, which imports nothing of this project. Each measurement is a new process. Medians over the rounds,
milliseconds and MB; *ratio*: ours over theirs. *Memory*: the most that the process had while it loaded the file and
ran it once, less what it had with the runtime alone. *Layers*: the sum over the runtime's profile of one run.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import click
import numpy as np

from export.folder.exported import open_exported
from runtimes.artifact import Artifact, Format
from validation.timing.alone import run_alone
from validation.timing.layers import time_by_module

COSTS = ("load", "first", "steady", "memory", "layers")

_PEAK = """
import re, sys, time
import numpy as np

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3

def resident():
    open("/proc/self/clear_refs", "w").write("5")
    return status("VmRSS")
"""
"""What follows may call `resident()`, MB, from which on the peak counts, and `status("VmHWM")`, the peak."""

_ONNXRUNTIME = (
    _PEAK
    + """
import json, onnxruntime
path, images = sys.argv[1], np.load(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.enable_profiling = sys.argv[3] == "profile"
options.profile_file_prefix = sys.argv[2]
empty = resident()
start = time.perf_counter()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
feed = {session.get_inputs()[0].name: images}
session.run(None, feed)
first = time.perf_counter()
memory = status("VmHWM") - empty
steady = []
while time.perf_counter() - first < 0.5:
    start_run = time.perf_counter()
    session.run(None, feed)
    steady.append(time.perf_counter() - start_run)
found = {"load": loaded - start, "first": first - loaded, "steady": sorted(steady)[len(steady) // 2]}
found = {"memory": memory, **{name: 1e3 * value for name, value in found.items()}}
if options.enable_profiling:
    events = json.load(open(session.end_profiling()))
    times = [each["dur"] / 1e3 for each in events if each["name"].endswith("_kernel_time")]
    found = {"layers": sum(times) / (len(steady) + 1)}
print(json.dumps(found))
"""
)
_OPENVINO_MEMORY = (
    _PEAK
    + """
import openvino
core = openvino.Core()
core.get_versions("CPU")
images = np.load(sys.argv[2])
empty = resident()
settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
core.compile_model(sys.argv[1], "CPU", settings)(images)
print(status("VmHWM") - empty)
"""
)
_SAYS = {
    "load": r"(?:Read|Compile) model took ([\d.]+) ms",
    "first": r"First inference took ([\d.]+) ms",
    "steady": r"Median:\s+([\d.]+) ms",
    "layers": r"Total time:\s+([\d.]+) milliseconds",
}


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
def main(folders: tuple[Path, ...], rounds: int) -> None:
    """Print a line for each of the exports in FOLDERS."""
    click.echo(f"{'export':<36} " + " ".join(f"{cost:>8} {'theirs':>8} {'ratio':>6}" for cost in COSTS))
    for folder in folders:
        artifact = open_exported(folder).artifact
        rng = np.random.default_rng(0)
        size = artifact.model.image_size
        images = rng.standard_normal((1, 3, size.height, size.width)).astype(np.float32)
        found = [(_ours(artifact, images), _theirs(artifact, images)) for _ in range(rounds)]
        cells = []
        for cost in COSTS:
            ours, theirs = (median(each[side][cost] for each in found) for side in (0, 1))
            cells.append(f"{ours:>8.2f} {theirs:>8.2f} {ours / theirs:>6.2f}")
        click.echo(f"{folder.name:<36} " + " ".join(cells))


def _ours(artifact: Artifact, images: np.ndarray) -> Mapping[str, float]:
    alone = run_alone(artifact, images)
    assert alone is not None
    layers = sum(each.ns for each in time_by_module(artifact, images)) / 1e6
    times = {"load": alone.load_ns, "first": alone.first_ns, "steady": median(alone.steady_ns)}
    return {**{name: ns / 1e6 for name, ns in times.items()}, "memory": alone.memory_bytes / 1e6, "layers": layers}


def _theirs(artifact: Artifact, images: np.ndarray) -> Mapping[str, float]:
    path = str(artifact.path.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        feed = f"{scratch}/feed.npy"
        np.save(feed, images)
        if artifact.format == Format.ONNX:
            found = json.loads(_output(sys.executable, "-c", _ONNXRUNTIME, path, feed, "plain"))
            return {**found, **json.loads(_output(sys.executable, "-c", _ONNXRUNTIME, path, feed, "profile"))}
        tool = [str(Path(sys.executable).parent / "benchmark_app"), "-m", path, "-d", "CPU", "-hint", "none", "-t", "1"]
        tool += ["-nstreams", "1", "-nthreads", "1", "-api", "sync", "-infer_precision", "f32"]
        said, counted = _output(*tool), _output(*tool, "-pc")
        times = {name: sum(map(float, re.findall(pattern, said))) for name, pattern in _SAYS.items()}
        (layers,) = re.findall(_SAYS["layers"], counted)
        memory = float(_output(sys.executable, "-c", _OPENVINO_MEMORY, path, feed))
        return {**times, "layers": float(layers), "memory": memory}


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


if __name__ == "__main__":
    main()
