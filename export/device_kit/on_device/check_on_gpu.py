#!/usr/bin/env python3
"""Check this kit's TensorRT engine on this host's first NVIDIA GPU, and time what passed.

    pip install numpy cuda-python        (or have a PyTorch that sees the GPU)
    python check_on_gpu.py

Two units, each with a budget of its own: RTX is TensorRT for RTX, ENTERPRISE is TensorRT proper. The one that built the
shipped engine runs it, and builds it again from the typed ONNX file if it is refused; the other one always builds, for
an engine is locked to its product, version and GPU. A unit whose product is not installed is left out.

Writes device-report.json beside this file; `vit-export attach` takes it from there. Each unit runs in a process of its
own. Nothing is timed before its outputs were compared with the reference and found within the budget; then CUDA events
time the launches of a CUDA graph, or plain launches where there is none. A rebuilt engine that passed is kept beside
this file: it is the one that the report speaks of.

Exit codes: 0 every unit passed; 1 a unit is over its budget, or the kit is not what it was; 2 usage, or no kit here; 3
nothing could be run (no GPU, no product), or not the unit that was asked for; 4 a unit crashed, or could not be built.
Written to NVIDIA's documentation, and not yet run on a GPU.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from kit_common import DATA, NOT_RUN_HERE, Record, Script, answer, judged, refused, run, timing, unit_record
from kit_cuda import CudaError, CudaPython, NoGpu, Torch, first_gpu
from kit_engine import Opened, Product, keep, open_engine

STATE = ("temperature.gpu", "power.draw", "clocks.sm", "clocks.mem", "pstate")


def check_unit(kit: Record, unit: str, timed: bool) -> Record:
    """Everything for one product, as it stands in the report."""
    not_run = refused(kit, unit)
    if not_run is not None:
        return not_run
    how = kit["engine"]["units"][unit]
    if find_spec(how["module"]) is None:
        return unit_record(unit, NOT_RUN_HERE, f"{how['module']} is not installed")
    try:
        trt = importlib.import_module(how["module"])
        cuda = first_gpu()
    except (ImportError, NoGpu) as error:
        return unit_record(unit, NOT_RUN_HERE, str(error))
    product = Product(trt, how["product"], how["shipped"])
    opened = open_engine(kit, product)
    runner = Runner(kit, product, opened.engine, cuda)
    outputs: dict[int, Any] = {}
    for rows in kit["runs"]:
        runner.run(rows)
        outputs = {**runner.answers(rows), **outputs}  # the last batch is filled up with what was answered before
    record = judged(kit, unit, in_order(outputs))
    attested = attestation(product, opened, runner)
    if record["status"] == "passed" and timed:  # and only now
        record = time_it(kit, unit, runner, outputs, attested)
    if record["status"] == "passed" and opened.origin == "rebuilt":
        keep(unit, opened.plan)
    return {**record, "engine": attested}


def in_order(outputs: dict[int, Any]) -> list[Any]:
    """The logits of every case, in the kit's order."""
    return [outputs[row] for row in range(len(outputs))]


# ---- running it ------------------------------------------------------------------------------------------------------


class Runner:
    """An engine with its context and buffers, on the stream of `cuda`."""

    def __init__(self, kit: Record, product: Product, engine: Any, cuda: CudaPython | Torch) -> None:
        self.cuda, self._kit, self._product, self._engine = cuda, kit, product, engine
        self._given, self._wanted = kit["input"]["name"], kit["output"]["name"]
        for name in (self._given, self._wanted):
            dtype = engine.get_tensor_dtype(name).name
            if dtype != "FLOAT":
                raise SystemExit(f"the engine's '{name}' is of type {dtype}, where FLOAT is expected")
        self._context = self._new_context()
        if self._context is None:
            raise SystemExit(f"the engine gives no execution context: {product.why()}")
        self._batch = 0
        self.gpu = cuda.gpu()

    def _new_context(self) -> Any:
        if not hasattr(self._product.trt, "DynamicShapesKernelSpecializationStrategy"):
            return self._engine.create_execution_context()
        # By default TensorRT for RTX begins with general kernels and changes to others while it runs: then what is
        # timed would not be what was checked.
        config = self._engine.create_runtime_config()
        strategies = self._product.trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return self._engine.create_execution_context(config)

    def images(self, rows: list[int]) -> Any:
        """The inputs of these cases, as one batch."""
        shape = self._kit["input"]["shape"]
        files = [self._kit["cases"][row]["input"] for row in rows]
        return np.concatenate([np.frombuffer((DATA / file).read_bytes(), "<f4").reshape(shape) for file in files])

    def run(self, rows: list[int]) -> None:
        """These cases, as one batch."""
        self.put(self.images(rows))
        self.enqueue()

    def answers(self, rows: list[int]) -> dict[int, Any]:
        """The logits of the last run, which was of these cases, by case."""
        logits = self.logits()
        return {row: logits[index] for index, row in enumerate(rows)}

    def put(self, images: Any) -> None:
        """Buffers for a batch of this size, the images in them, and no numbers where the logits will be."""
        if len(images) != self._batch:
            if not self._context.set_input_shape(self._given, images.shape):
                raise SystemExit(f"the engine does not take a batch of {len(images)}: {self._product.why()}")
            shape, expected = tuple(self._context.get_tensor_shape(self._wanted)), self._kit["model"]["classes"]
            if shape != (len(images), expected):
                raise SystemExit(f"the engine gives logits of shape {shape}, where {expected} an image are expected")
            self._image, self._logits = self.cuda.buffer(images.shape), self.cuda.buffer(shape)
            self._context.set_tensor_address(self._given, self._image.address)
            self._context.set_tensor_address(self._wanted, self._logits.address)
            self._batch = len(images)
        self._image.put(images)
        self.spoil()

    def spoil(self) -> None:
        """So that a launch that writes nothing is seen."""
        self._logits.put(np.full(self._logits.shape, np.nan, np.float32))

    def enqueue(self) -> None:
        """One run, on the stream; it has not happened yet."""
        if not self._context.execute_async_v3(self.cuda.stream):
            raise CudaError(f"the engine could not be run: {self._product.why()}")

    def logits(self) -> Any:
        """(batch, classes) of the last run."""
        return self._logits.get()


def time_it(kit: Record, unit: str, runner: Runner, outputs: dict[int, Any], attested: Record) -> Record:
    """The record with its timing, judged once more on what the timed launches left; `attested` learns how they went."""
    rows = kit["runs"][-1]
    runner.run(rows)
    launch, attested["launch"], attested["launch_reason"] = launcher(runner)
    runner.spoil()
    found = timing(kit["timing"], lambda: runner.cuda.elapsed_ns(launch), lambda: state(runner.gpu["id"]))
    record = judged(kit, unit, in_order({**outputs, **runner.answers(rows)}))
    return {**record, "timing": found} if record["status"] == "passed" else record


def launcher(runner: Runner) -> tuple[Callable[[], None], str, str | None]:
    """What is timed: a CUDA graph, if it gives what the plain launch before it gave, or plain launches, and why."""
    right = runner.logits()
    try:
        launch = runner.cuda.captured(runner.enqueue)
        runner.spoil()
        launch()
        if np.array_equal(runner.logits(), right):
            return launch, "graph", None
        reason = "the graph's logits are not those of a plain launch"
    except CudaError as error:
        reason = str(error)
    return runner.enqueue, "plain", f"no CUDA graph: {reason}"


# ---- this host -------------------------------------------------------------------------------------------------------


def attestation(product: Product, opened: Opened, runner: Runner) -> Record:
    """Which engine ran where, asked in the process that ran it."""
    return {
        "product": product.name,
        "version": product.version,
        "sha256": hashlib.sha256(opened.plan).hexdigest(),
        "origin": opened.origin,
        "reason": opened.reason,
        "gpu": runner.gpu["name"],
        "compute_capability": runner.gpu["compute_capability"],
        "driver": asked(runner.gpu["id"], "driver_version"),
        "cuda": runner.cuda.name,
        "launch": None,
        "launch_reason": None,
    }


def asked(gpu: str, *what: str) -> str | None:
    """What nvidia-smi says of a GPU, separated by commas; None where it says nothing."""
    said = answer("nvidia-smi", f"--id={gpu}", f"--query-gpu={','.join(what)}", "--format=csv,noheader")
    return said.splitlines()[0] if said else None


def state(gpu: str) -> str | None:
    """Temperature, power and clocks, in one line."""
    said = asked(gpu, *STATE)
    if said is None:
        return None
    values = said.split(",")
    return ", ".join(f"{name} {values[index].strip()}" for index, name in enumerate(STATE[: len(values)]))


def this_host(units: list[Record]) -> Record:
    """The GPU, as the units that ran found it; or as nvidia-smi names it."""
    ran = [unit["engine"] for unit in units if unit.get("engine")]
    capability = ran[0]["compute_capability"] if ran else asked("0", "compute_cap")
    return {
        "model": ran[0]["gpu"] if ran else asked("0", "name") or "unknown GPU",
        "os": f"{platform.system()} {platform.release()}",
        "os_build": None,
        "chip": f"compute capability {capability}" if capability else None,
    }


def products(units: list[Record]) -> str:
    """What ran, with versions."""
    ran = [unit["engine"] for unit in units if unit.get("engine")]
    return ", ".join(f"{engine['product']} {engine['version']}" for engine in ran) or "unknown"


def origin(unit: Record) -> str:
    """Which engine, and how it was launched."""
    engine = unit.get("engine")
    if not engine:
        return ""
    return f"{engine['origin']} engine{', CUDA graph' if engine['launch'] == 'graph' else ''}"


if __name__ == "__main__":
    about = "Check and time this kit's TensorRT engine on this host's first NVIDIA GPU."
    sys.exit(run(Script(__file__, about, check_unit, this_host, products, origin)))
