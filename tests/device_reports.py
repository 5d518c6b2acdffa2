"""What tests of `vit-export attach` do with a device's report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = dict[str, Any]
TIMING = {"samples_ns": list(range(900_000, 901_000, 10)), "warm_up_runs": 20}
"""What a device says of the runs of one unit, less how warm it was."""


def edit(path: Path, change: Callable[[Report], object]) -> None:
    """Let `change` spoil the report at `path`."""
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def timed(folder: Path, healthy: str, unit: int, before: str = "nominal") -> Path:
    """The report in the kit of `folder`, with the unit of that number timed."""
    path = folder / "kit" / "device-report.json"
    path.write_text(healthy)
    thermal = {"thermal_before": before, "thermal_after": None}
    edit(path, lambda report: report["units"][unit].update(timing={**TIMING, **thermal}))
    return path
