#!/usr/bin/env python3
"""Check this kit's Core AI asset on this Mac, on every compute unit, and time what passed.

    pip install coreai-core
    python check_coreai_on_mac.py

Writes device-report.json beside this file; `vit-export attach` takes it from there. Each compute unit runs in a process
of its own, because what goes wrong in Core AI can end the process that it happens in. Nothing is timed before its
outputs were compared with the reference and found within the budget.

Python 3.11 to 3.14, and macOS 27 or later. Elsewhere coreai-core has an interpreter on the CPU: there `cpuOnly` is
checked and not timed, and the other units are not run; `vit-export attach` takes that for what it is, and for no
device's.

Exit codes: 0 every unit that this host has passed; 1 a unit is over its budget, or the kit is not what it was; 2 usage,
or no kit here; 3 nothing could be run, or not the unit that --unit asked for; 4 a unit crashed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from kit_common import DATA, NOT_RUN_HERE, Record, Script, judged, refused, run, timing, unit_record
from kit_mac import package_version, tensor, thermal_state, this_mac

MAIN = "main"
INTERPRETED = {"runtime": "package", "allowed": ["CPU"], "preferred": None}
"""What coreai-core's own runtime is: an interpreter on the CPU that takes no options."""


def check_unit(kit: Record, unit: str, timed: bool) -> Record:
    """Outputs first, then the verdict on them, and only then the clock; as it stands in the report."""
    not_run = refused(kit, unit)
    if not_run is not None:
        return not_run
    if (why := unavailable(unit)) is not None:
        return unit_record(unit, NOT_RUN_HERE, why)
    options = options_of(unit) if in_the_system() else None
    with tempfile.TemporaryDirectory() as folder, opened(kit, copied(kit, Path(folder)), options) as (predict, once):
        record = judged(kit, unit, [predict(tensor(kit, case)) for case in kit["cases"]])
        record["specialization"] = INTERPRETED if options is None else described(options)
        if record["status"] == "passed" and timed and options is not None:
            feed = tensor(kit, kit["cases"][0])
            record["timing"] = timing(kit["timing"], lambda: once(feed), thermal_state)
    return record


def in_the_system() -> bool:
    """Whether the operating system has Core AI: macOS 27 or later."""
    from coreai.runtime import SpecializationOptions

    return bool(SpecializationOptions.is_supported())


def unavailable(unit: str) -> str | None:
    """Why this host cannot run the unit; None where it can."""
    if importlib.util.find_spec("coreai") is None:
        return "coreai-core is not installed: pip install coreai-core"
    if not in_the_system():
        return None if unit == "cpuOnly" else "needs macOS 27 or later: here is nothing but coreai-core's interpreter"
    from coreai.runtime import ComputeUnitKind

    # Kinds have no equality of their own, so they are told apart by name.
    here = {str(kind) for kind in ComputeUnitKind.available_kinds()}
    wanted = {"gpu": ComputeUnitKind.gpu, "neuralEngine": ComputeUnitKind.neural_engine}.get(unit)
    return None if wanted is None or str(wanted()) in here else f"this Mac has no {wanted()}"


def options_of(unit: str) -> Any:
    """What an app would make for the unit. A preference forbids nothing: what the unit cannot do, another does."""
    from coreai.runtime import ComputeUnitKind, SpecializationOptions

    made: dict[str, Callable[[], Any]] = {
        "default": SpecializationOptions.default,
        "cpuOnly": SpecializationOptions.cpu_only,
        "gpu": lambda: SpecializationOptions.from_preferred_compute_unit_kind(ComputeUnitKind.gpu()),
        "neuralEngine": lambda: SpecializationOptions.from_preferred_compute_unit_kind(ComputeUnitKind.neural_engine()),
    }
    return made[unit]()


def copied(kit: Record, folder: Path) -> Path:
    """The asset for one unit alone: what Core AI compiles may be kept in it, and is neither the kit's nor another's."""
    name = kit["package"]["path"]
    return Path(shutil.copytree(DATA / name, folder.resolve() / name))


@contextmanager
def opened(kit: Record, asset: Path, options: Any) -> Iterator[tuple[Callable[[Any], Any], Callable[[Any], int]]]:
    """Two functions of an input: its (classes,) float32 logits, and the nanoseconds of one run."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    given, wanted, classes = kit["input"]["name"], kit["output"]["name"], kit["model"]["classes"]
    executable = AIModelAsset.load(asset).executable(options)
    with asyncio.Runner() as runner:
        function = runner.run(executable.__aenter__()).load_function(MAIN)

        def predict(value: Any) -> Any:
            answer = runner.run(function({given: NDArray(value)}))
            logits = np.array(answer[wanted].numpy(), np.float32).reshape(-1)
            if logits.size != classes:
                raise SystemExit(f"the asset returned {logits.size} logits, where {classes} are expected")
            return logits

        def once(value: Any) -> int:
            return runner.run(clocked(function, {given: NDArray(value)}))

        try:
            yield predict, once
        finally:
            runner.run(executable.__aexit__(None, None, None))


async def clocked(function: Any, inputs: Record) -> int:
    """Nanoseconds of one run, the event loop's start left out."""
    start = time.perf_counter_ns()
    await function(inputs)
    return max(1, time.perf_counter_ns() - start)


def described(options: Any) -> Record:
    """What the unit may use, as the runtime calls it. It does not say what it used."""
    preferred = options.preferred_compute_unit_kind
    return {
        "runtime": "system",
        "allowed": sorted(str(kind) for kind in options.allowed_compute_unit_kinds),
        "preferred": None if preferred is None else str(preferred),
    }


def runtime(units: list[Record]) -> str:
    """What ran, with versions."""
    package = package_version("coreai-core")
    ran = [unit["specialization"]["runtime"] for unit in units if unit.get("specialization")]
    if not ran:
        return package
    return f"{package}, {'Core AI of the system' if 'system' in ran else 'its interpreter on the CPU'}"


def allowed(unit: Record) -> str:
    """What it might use."""
    found = unit.get("specialization")
    if not found:
        return ""
    if found["runtime"] == "package":
        return "in coreai-core's interpreter: no device"
    return f"{found['preferred'] or 'no unit'} preferred; {', '.join(found['allowed'])} allowed"


if __name__ == "__main__":
    about = "Check and time this kit's Core AI asset on this Mac."
    sys.exit(run(Script(__file__, about, check_unit, this_mac, runtime, allowed)))
