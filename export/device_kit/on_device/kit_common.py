"""What the device kits' scripts share: the kit's files, the comparison, the timing, the report. Python 3.9 and NumPy.

Each unit runs in a process of its own, because what a device does wrong can end the process that it happens in. Nothing
is timed before its outputs were compared with the reference and found within the budget.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
REPORT = HERE / "device-report.json"
OK, REJECTED, USAGE, NOT_RUN, CRASHED = 0, 1, 2, 3, 4
NOT_RUN_HERE = "not_run"  # of a unit that this host has not; it is no part of a report
UNIT_TIMEOUT_S = 1800  # the first load compiles, which takes minutes at worst
WINDOW, STABLE_WITHIN = 10, 0.05
NAMED = 3
_IGNORED = ".DS_Store"  # the Finder's, and no part of a package

Record = dict[str, Any]


@dataclass(frozen=True)
class Script:
    """One kit's script. `check`: (kit, unit, timed) -> the unit's record, in a process of its own."""

    path: str
    about: str
    check: Callable[[Record, str, bool], Record]
    device: Callable[[list[Record]], Record]
    runtime: Callable[[list[Record]], str]
    figures: Callable[[Record], str]


# ---- the kit ---------------------------------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """Of one file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package_sha256(package: Path) -> str:
    """Over the names and digests of its files, in order of name, as vit-export computes it.

    Of an engine and the ONNX file beside it: over their suffixes and digests.
    """
    if package.is_dir():
        files = [path for path in package.rglob("*") if path.is_file() and path.name != _IGNORED]
    else:
        files = [package, package.with_suffix(".onnx")]
    total = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(package).as_posix() if package.is_dir() else file.suffix
        total.update(f"{name}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def what_changed(kit: Record) -> list[str]:
    """Files that are not those of the kit as it was written."""
    wrong = []
    try:
        intact = package_sha256(DATA / kit["package"]["path"]) == kit["package"]["sha256"]
    except OSError:
        intact = False
    if not intact:
        wrong.append(kit["package"]["path"])
    for name, expected in kit["files"].items():
        path = DATA / name
        if not path.is_file() or file_sha256(path) != expected:
            wrong.append(name)
    return wrong


# ---- one unit, in a process of its own -------------------------------------------------------------------------------


def unit_record(unit: str, status: str, reason: str | None) -> Record:
    """A unit without results."""
    return {"unit": unit, "status": status, "reason": reason, "cases": [], "jpeg": None, "timing": None,
            "compute_plan": None}  # fmt: skip


def refused(kit: Record, unit: str) -> Record | None:
    """The record of a unit that is not run, because the kit is not what it was; None where it is."""
    wrong = what_changed(kit)
    return unit_record(unit, "refused", f"not the kit that was written: {', '.join(wrong)}") if wrong else None


def judged(kit: Record, unit: str, outputs: list[Any]) -> Record:
    """The record of a unit that ran; `outputs` (classes,) float32, in the order of the kit's cases."""
    record = unit_record(unit, "passed", None)
    record["cases"] = [
        {"name": case["name"], "logits": base64.b64encode(outputs[index].astype("<f4").tobytes()).decode()}
        for index, case in enumerate(kit["cases"])
    ]
    over = over_budget(kit, unit, outputs)
    return {**record, "status": "rejected", "reason": in_short(over)} if over else record


def relative_error(logits: Any, reference: Any, scale: float) -> float:
    """The distance of the logits, over what the kit says that it is relative to; NaN stays NaN."""
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(logits.astype(np.float64) - reference.astype(np.float64)) / scale)


def over_budget(kit: Record, unit: str, outputs: list[Any]) -> list[str]:
    """What is not within the unit's budget, in words. Probes have no reference here, but must be finite."""
    over, errors = [], []
    for index, case in enumerate(kit["cases"]):
        if case["logits"] is None:
            if not np.isfinite(outputs[index]).all():
                over.append(f"{case['name']}: logits that are no numbers")
            continue
        right = np.frombuffer((DATA / case["logits"]).read_bytes(), "<f4")
        error = relative_error(outputs[index], right, case["scale"])
        errors.append(error)
        budget = kit["budgets"][unit][case["kind"]]
        if not error <= budget:  # so that NaN is over it
            over.append(f"{case['name']}: {error:.2e} > {budget:.2e}")
    quality = kit.get("quality_budget")
    if quality is not None:
        pooled = float(np.sqrt(np.mean(np.square(errors))))
        if not pooled <= quality:
            over.append(f"all together: {pooled:.2e} > {quality:.2e}")
    return over


def in_short(over: list[str]) -> str:
    """The first few; the raw outputs hold the rest."""
    more = [f"and {len(over) - NAMED} more"] if len(over) > NAMED else []
    return "; ".join([*over[:NAMED], *more])


def timing(plan: Record, once: Callable[[], int], state: Callable[[], str | None]) -> Record:
    """Nanoseconds of each run, after warming up until two windows of ten agree. `state`: the device's, in words."""
    before = state()
    warm_up = _warm(plan["warm_up_s"], once)
    samples: list[int] = []
    end = time.perf_counter() + plan["measure_s"]
    while len(samples) < plan["least_samples"] or time.perf_counter() < end:
        samples.append(once())
    return {"samples_ns": samples, "warm_up_runs": warm_up, "thermal_before": before, "thermal_after": state()}


def _warm(limit_s: float, once: Callable[[], int]) -> int:
    """Run until it is stable, or `limit_s` is over; the number of runs."""
    end, previous, runs = time.perf_counter() + limit_s, float("inf"), 0
    while True:
        median = float(np.median([once() for _ in range(WINDOW)]))
        runs += WINDOW
        if abs(median - previous) <= STABLE_WITHIN * median or time.perf_counter() > end:
            return runs
        previous = median


def answer(*command: str) -> str | None:
    """What a command of the system prints, or None."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - our own
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


# ---- all units -------------------------------------------------------------------------------------------------------


def run(script: Script) -> int:
    """Run the units one after another, and write the report; the process's exit code."""
    try:
        content = (DATA / "kit.json").read_bytes()
        kit = json.loads(content)
    except (OSError, ValueError) as error:
        print(f"no kit in {DATA}: {error}", file=sys.stderr)
        return USAGE
    options = _options(script, list(kit["budgets"]))
    timed = not options.no_time
    if options.child:
        unit, result = options.child
        write_atomically(Path(result), script.check(kit, unit, timed))
        return OK
    say = print if not options.json else lambda *_: None
    say(f"{kit['package']['name']}, {len(kit['cases'])} inputs; a unit is timed only after it has passed\n")
    units = []
    for unit in dict.fromkeys(options.unit or kit["budgets"]):
        units.append(_in_own_process(script, unit, timed))
        say("\n".join(_shown(units[-1], script.figures(units[-1]))))
    ran = [unit for unit in units if unit["status"] != NOT_RUN_HERE]
    missing = len(ran) < len(units) and bool(options.unit)
    if not ran:
        print("nothing could be run here, so there is no report", file=sys.stderr)
        return NOT_RUN
    report = {
        "schema": SCHEMA,
        "tool": {"name": Path(script.path).name, "version": str(kit["vit_export"]), "runtime": script.runtime(ran)},
        "package_sha256": kit["package"]["sha256"],
        "kit_sha256": hashlib.sha256(content).hexdigest(),
        "device": script.device(ran),
        "units": ran,
    }
    write_atomically(options.out, report)
    if options.json:
        print(json.dumps(report, indent=1))
    say(f"\n{options.out}: bring it back, and run `vit-export attach DIR {options.out.name}`")
    return _exit_code(ran, missing)


def _options(script: Script, units: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=script.about)
    parser.add_argument("--unit", action="append", choices=units, help="only this one; repeatable")
    parser.add_argument("--no-time", action="store_true", help="check, but don't time")
    parser.add_argument("--json", action="store_true", help="print the report in place of the table")
    parser.add_argument("-o", "--out", type=Path, default=REPORT, help="where the report goes")
    parser.add_argument("--child", nargs=2, metavar=("UNIT", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_own_process(script: Script, unit: str, timed: bool) -> Record:
    """The unit's record; `crashed` if its process did not come back with one."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "unit.json"
        command = [sys.executable, str(Path(script.path).resolve()), "--child", unit, str(result)]
        try:
            done = subprocess.run(  # noqa: S603 - the very script that runs
                [*command, *([] if timed else ["--no-time"])],
                stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False, timeout=UNIT_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return unit_record(unit, "crashed", f"no answer within {UNIT_TIMEOUT_S} s")
        if done.returncode == 0 and result.is_file():
            record: Record = json.loads(result.read_text(encoding="utf-8"))
            return record
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return unit_record(unit, "crashed", ": ".join([_how_it_ended(done.returncode), *last]))


def _how_it_ended(code: int) -> str:
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


def _shown(unit: Record, more: str) -> list[str]:
    """A line of the table, and why where it did not pass."""
    samples = (unit["timing"] or {}).get("samples_ns")
    figures = "not timed"
    if samples:
        median, high = np.percentile(samples, [50, 90]) / 1e6
        figures = f"{median:8.3f} ms median {high:8.3f} ms p90"
    lines = [f"{unit['unit']:<12} {unit['status'].upper():<9} {figures}{more and '  '}{more}"]
    return [*lines, f"             {unit['reason']}"] if unit["reason"] else lines


def _exit_code(units: list[Record], missing: bool) -> int:
    """The severest: crashed, then rejected or refused, then a unit that was asked for and is not here."""
    states = {unit["status"] for unit in units}
    if "crashed" in states:
        return CRASHED
    if states != {"passed"}:
        return REJECTED
    return NOT_RUN if missing else OK
