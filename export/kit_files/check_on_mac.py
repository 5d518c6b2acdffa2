#!/usr/bin/env python3
"""Check this kit's Core ML package on this Mac, on every compute unit, and time what passed.

    pip install coremltools pillow
    python check_on_mac.py

Writes device-report.json beside this file; `vit-export attach` takes it from there. Each compute unit runs in a process
of its own, because a failure of the Neural Engine can end the process that it happens in. Nothing is timed before its
outputs were compared with the reference and found within the budget.

Exit codes: 0 every unit passed; 1 a unit is over its budget, or the kit is not what it was; 2 usage, or no kit here;
4 a unit crashed. Written to Apple's and coremltools' documentation, and not yet run on a Mac.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
REPORT = HERE / "device-report.json"
OK, REJECTED, USAGE, CRASHED = 0, 1, 2, 4
UNIT_TIMEOUT_S = 1800  # the first load for the Neural Engine compiles the package, which takes minutes at worst
WINDOW, STABLE_WITHIN = 10, 0.05
NAMED = 3
_IGNORED = ".DS_Store"  # the Finder's, and no part of a package

Record = dict[str, Any]


# ---- the kit ---------------------------------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """Of one file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package_sha256(package: Path) -> str:
    """Over the names and digests of its files, in order of name, as vit-export computes it."""
    total = hashlib.sha256()
    for file in sorted(path for path in package.rglob("*") if path.is_file() and path.name != _IGNORED):
        total.update(f"{file.relative_to(package).as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def what_changed(kit: Record) -> list[str]:
    """Files that are not those of the kit as it was written."""
    wrong = []
    if package_sha256(DATA / kit["package"]["path"]) != kit["package"]["sha256"]:
        wrong.append(kit["package"]["path"])
    for name, expected in kit["files"].items():
        path = DATA / name
        if not path.is_file() or file_sha256(path) != expected:
            wrong.append(name)
    return wrong


def case_input(kit: Record, case: Record) -> Any:
    """What `predict` takes for a case: a Pillow image of 8-bit pixels, or a float32 tensor."""
    raw = (DATA / case["input"]).read_bytes()
    if kit["input"]["kind"] == "image":
        from PIL import Image

        return Image.fromarray(np.frombuffer(raw, np.uint8).reshape(kit["input"]["shape"]))
    return np.frombuffer(raw, "<f4").reshape(kit["input"]["shape"]).astype(np.float32)


# ---- one compute unit, in a process of its own -----------------------------------------------------------------------


def check_unit(kit: Record, unit: str, timed: bool) -> Record:
    """Everything for one unit, as it stands in the report."""
    if wrong := what_changed(kit):
        return unit_record(unit, "refused", f"not the kit that was written: {', '.join(wrong)}")
    predict, model = opened(kit, unit)
    outputs = [predict(case_input(kit, case)) for case in kit["cases"]]
    record = unit_record(unit, "passed", None)
    record["cases"] = [
        {"name": case["name"], "logits": base64.b64encode(outputs[index].astype("<f4").tobytes()).decode()}
        for index, case in enumerate(kit["cases"])
    ]
    over = over_budget(kit, unit, outputs)
    if over:
        return {**record, "status": "rejected", "reason": in_short(over)}
    if timed:  # and only now
        feed = case_input(kit, kit["cases"][0])
        record["timing"] = timing(kit["timing"], lambda: predict(feed))
    record["compute_plan"] = compute_plan(model, unit)
    return record


def unit_record(unit: str, status: str, reason: str | None) -> Record:
    """A unit without results."""
    return {"unit": unit, "status": status, "reason": reason, "cases": [], "jpeg": None, "timing": None,
            "compute_plan": None}  # fmt: skip


def opened(kit: Record, unit: str) -> tuple[Any, Any]:
    """A function from an input to (classes,) float32 logits, and the model itself."""
    import coremltools

    path = str(DATA / kit["package"]["path"])
    model = coremltools.models.MLModel(path, compute_units=coremltools.ComputeUnit[unit])
    given, wanted, classes = kit["input"]["name"], kit["output"]["name"], kit["model"]["classes"]

    def predict(value: Any) -> Any:
        logits = np.asarray(model.predict({given: value})[wanted], np.float32).reshape(-1)
        if logits.size != classes:
            raise SystemExit(f"the package returned {logits.size} logits, where {classes} are expected")
        return logits

    return predict, model


def relative_error(logits: Any, reference: Any) -> float:
    """The distance of the logits, over the norm of the reference's, centred; NaN stays NaN."""
    y, right = logits.astype(np.float64), reference.astype(np.float64)
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(y - right) / np.linalg.norm(right - right.mean()))


def over_budget(kit: Record, unit: str, outputs: list[Any]) -> list[str]:
    """The cases that are not within the unit's budget, in words. Probes have no reference here, but must be finite."""
    over = []
    for index, case in enumerate(kit["cases"]):
        if case["logits"] is None:
            if not np.isfinite(outputs[index]).all():
                over.append(f"{case['name']}: logits that are no numbers")
            continue
        error = relative_error(outputs[index], np.frombuffer((DATA / case["logits"]).read_bytes(), "<f4"))
        budget = kit["budgets"][unit][case["kind"]]
        if not error <= budget:  # so that NaN is over it
            over.append(f"{case['name']}: {error:.2e} > {budget:.2e}")
    return over


def in_short(over: list[str]) -> str:
    """The first few; the raw outputs hold the rest."""
    more = [f"and {len(over) - NAMED} more"] if len(over) > NAMED else []
    return "; ".join([*over[:NAMED], *more])


def timing(plan: Record, run: Any) -> Record:
    """Nanoseconds of each run, after warming up until two windows of ten agree."""
    before = thermal_state()
    warm_up = warm(plan["warm_up_s"], run)
    samples: list[int] = []
    end = time.perf_counter() + plan["measure_s"]
    while len(samples) < plan["least_samples"] or time.perf_counter() < end:
        samples.append(once(run))
    return {"samples_ns": samples, "warm_up_runs": warm_up, "thermal_before": before, "thermal_after": thermal_state()}


def warm(limit_s: float, run: Any) -> int:
    """Run until it is stable, or `limit_s` is over; the number of runs."""
    end, previous, runs = time.perf_counter() + limit_s, float("inf"), 0
    while True:
        median = float(np.median([once(run) for _ in range(WINDOW)]))
        runs += WINDOW
        if abs(median - previous) <= STABLE_WITHIN * median or time.perf_counter() > end:
            return runs
        previous = median


def once(run: Any) -> int:
    """Nanoseconds of one run; the clock of a stand-in may not tick within it."""
    start = time.perf_counter_ns()
    run()
    return max(1, time.perf_counter_ns() - start)


def compute_plan(model: Any, unit: str) -> Record | None:
    """How many operations prefer which device; None where this macOS (before 14.4) or coremltools can't say."""
    try:
        import coremltools
        from coremltools.models.compute_plan import MLComputePlan

        plan = MLComputePlan.load_from_path(
            path=model.get_compiled_model_path(), compute_units=coremltools.ComputeUnit[unit]
        )
        operations = plan.model_structure.program.functions["main"].block.operations
        usages = [plan.get_compute_device_usage_for_mlprogram_operation(operation) for operation in operations]
    except Exception as error:  # noqa: BLE001 - coremltools raises plain Exception; the plan decides nothing
        print(f"no compute plan on {unit}: {error}", file=sys.stderr)
        return None
    counts: dict[str, int] = {}
    for usage in usages:
        if usage is not None:  # constants run nowhere
            name = type(usage.preferred_compute_device).__name__.replace("ML", "", 1).replace("ComputeDevice", "")
            counts[name] = counts.get(name, 0) + 1
    return {"operations": sum(counts.values()), "preferred": counts}


# ---- this Mac --------------------------------------------------------------------------------------------------------


def answer(*command: str) -> str | None:
    """What a command of the system prints, or None."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - our own
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


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


def this_device() -> Record:
    """What the report says of this machine."""
    version = answer("sw_vers", "-productVersion")
    return {
        "model": answer("sysctl", "-n", "hw.model") or platform.machine() or "unknown",
        "os": f"macOS {version}" if version else f"{platform.system()} {platform.release()}",
        "os_build": answer("sw_vers", "-buildVersion"),
        "chip": answer("sysctl", "-n", "machdep.cpu.brand_string"),
    }


def runtime_version() -> str:
    """Of coremltools, as installed, without importing it here."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"coremltools {version('coremltools')}"
    except PackageNotFoundError:
        return "coremltools"


# ---- all units -------------------------------------------------------------------------------------------------------


def in_own_process(unit: str, timed: bool) -> Record:
    """The unit's record; `crashed` if its process did not come back with one."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "unit.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--child", unit, str(result)]
        try:
            done = subprocess.run(  # noqa: S603 - this very script
                [*command, *([] if timed else ["--no-time"])],
                stderr=subprocess.PIPE, text=True, check=False, timeout=UNIT_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return unit_record(unit, "crashed", f"no answer within {UNIT_TIMEOUT_S} s")
        if done.returncode == 0 and result.is_file():
            record: Record = json.loads(result.read_text(encoding="utf-8"))
            return record
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return unit_record(unit, "crashed", ": ".join([how_it_ended(done.returncode), *last]))


def how_it_ended(code: int) -> str:
    """The signal's name or the exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def write_atomically(path: Path, record: Record) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def show(unit: Record) -> None:
    """One line of the table."""
    samples = (unit["timing"] or {}).get("samples_ns")
    figures = "not timed"
    if samples:
        median, high = np.percentile(samples, [50, 90]) / 1e6
        figures = f"{median:8.3f} ms median {high:8.3f} ms p90"
    plan = unit["compute_plan"]
    share = ""
    if plan and plan["operations"]:
        share = f"  {plan['preferred'].get('NeuralEngine', 0)} of {plan['operations']} operations prefer the NE"
    print(f"{unit['unit']:<12} {unit['status'].upper():<9} {figures}{share}")
    if unit["reason"]:
        print(f"             {unit['reason']}")


def exit_code(units: list[Record]) -> int:
    """The severest: crashed, then rejected or refused."""
    states = {unit["status"] for unit in units}
    if "crashed" in states:
        return CRASHED
    return OK if states == {"passed"} else REJECTED


def main() -> int:
    """Run the units one after another, and write the report."""
    parser = argparse.ArgumentParser(description="Check and time this kit's Core ML package on this Mac.")
    parser.add_argument("--unit", action="append", choices=UNITS, help="only this one; repeatable")
    parser.add_argument("--no-time", action="store_true", help="check, but don't time")
    parser.add_argument("-o", "--out", type=Path, default=REPORT, help="where the report goes")
    parser.add_argument("--child", nargs=2, metavar=("UNIT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        content = (DATA / "kit.json").read_bytes()
        kit = json.loads(content)
    except (OSError, ValueError) as error:
        print(f"no kit in {DATA}: {error}", file=sys.stderr)
        return USAGE
    timed = not options.no_time
    if options.child:
        unit, result = options.child
        write_atomically(Path(result), check_unit(kit, unit, timed))
        return OK
    print(f"{kit['package']['name']}, {len(kit['cases'])} inputs; a unit is timed only after it has passed\n")
    units = []
    for unit in dict.fromkeys(options.unit or UNITS):
        units.append(in_own_process(unit, timed))
        show(units[-1])
    report = {
        "schema": SCHEMA,
        "tool": {"name": "check_on_mac.py", "version": str(kit["vit_export"]), "runtime": runtime_version()},
        "package_sha256": kit["package"]["sha256"],
        "kit_sha256": hashlib.sha256(content).hexdigest(),
        "device": this_device(),
        "units": units,
    }
    write_atomically(options.out, report)
    print(f"\n{options.out}: bring it back, and run `vit-export attach DIR {options.out.name}`")
    return exit_code(units)


if __name__ == "__main__":
    sys.exit(main())
