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

import sys
from typing import Any

import numpy as np
from kit_common import DATA, Record, Script, judged, refused, run, timing
from kit_mac import once, package_version, tensor, thermal_state, this_mac


def case_input(kit: Record, case: Record) -> Any:
    """What `predict` takes for a case: a Pillow image of 8-bit pixels, or a float32 tensor."""
    if kit["input"]["kind"] != "image":
        return tensor(kit, case)
    from PIL import Image

    raw = (DATA / case["input"]).read_bytes()
    return Image.fromarray(np.frombuffer(raw, np.uint8).reshape(kit["input"]["shape"]))


def check_unit(kit: Record, unit: str, timed: bool) -> Record:
    """Everything for one compute unit, as it stands in the report."""
    not_run = refused(kit, unit)
    if not_run is not None:
        return not_run
    predict, model = opened(kit, unit)
    record = judged(kit, unit, [predict(case_input(kit, case)) for case in kit["cases"]])
    if record["status"] != "passed":
        return record
    if timed:  # and only now
        feed = case_input(kit, kit["cases"][0])
        record["timing"] = timing(kit["timing"], lambda: once(lambda: predict(feed)), thermal_state)
    record["compute_plan"] = compute_plan(model, unit)
    return record


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


def share(unit: Record) -> str:
    """Of the operations, those that prefer the Neural Engine."""
    plan = unit["compute_plan"]
    if not plan or not plan["operations"]:
        return ""
    return f"{plan['preferred'].get('NeuralEngine', 0)} of {plan['operations']} operations prefer the NE"


def runtime_version(_: list[Record]) -> str:
    """Of coremltools, as installed, without importing it here."""
    return package_version("coremltools")


if __name__ == "__main__":
    about = "Check and time this kit's Core ML package on this Mac."
    sys.exit(run(Script(__file__, about, check_unit, this_mac, runtime_version, share)))
