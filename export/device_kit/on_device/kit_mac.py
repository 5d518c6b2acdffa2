"""What the scripts for the Mac share: inputs, the clock of one run, the thermal state, the names of what ran."""

from __future__ import annotations

import importlib
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from kit_common import DATA, Record, answer


def tensor(kit: Record, case: Record) -> Any:
    """(1, 3, H, W) float32, normalized."""
    raw = (DATA / case["input"]).read_bytes()
    return np.frombuffer(raw, "<f4").reshape(kit["input"]["shape"]).astype(np.float32)


def once(predict: Any) -> int:
    """Nanoseconds of one run; the clock of a stand-in may not tick within it."""
    start = time.perf_counter_ns()
    predict()
    return max(1, time.perf_counter_ns() - start)


def thermal_state() -> str | None:
    """NSProcessInfo's, where pyobjc is installed; else what `pmset -g therm` says in one line; else None."""
    try:
        process = importlib.import_module("Foundation").NSProcessInfo.processInfo()
    except ImportError:
        said = answer("pmset", "-g", "therm")
        return None if said is None else "; ".join(line.strip() for line in said.splitlines() if line.strip())
    names = ("nominal", "fair", "serious", "critical")
    state = int(process.thermalState())
    return names[state] if 0 <= state < len(names) else str(state)


def this_mac(_: list[Record]) -> Record:
    """What the report says of this machine."""
    release = answer("sw_vers", "-productVersion")
    return {
        "model": answer("sysctl", "-n", "hw.model") or platform.machine() or "unknown",
        "os": f"macOS {release}" if release else f"{platform.system()} {platform.release()}",
        "os_build": answer("sw_vers", "-buildVersion"),
        "chip": answer("sysctl", "-n", "machdep.cpu.brand_string"),
    }


def package_version(name: str) -> str:
    """The package with its version, as installed, without importing it here."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name
