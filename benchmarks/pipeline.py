"""What the checks cost: an export with all of them against a plain script of the same conversions.

    python -m benchmarks.pipeline [ROUNDS]

In turns, each command in a process of its own; medians of wall time. *Cold* has an empty cache, *warm* finds in it that
nothing has changed.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

_ASKED = ("m2", "-t", "onnx", "-t", "openvino", "-t", "coreml", "--no-time", "-w", "seeded")


def main(rounds: int) -> None:
    """Print the table."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            out, cache = Path(folder) / "out", {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
            export = ["-m", "export", *_ASKED, "-o", str(out)]
            runs = {
                "plain script": (["-m", "benchmarks.plain_export", str(Path(folder) / "plain")], {}),
                "cold": (export, cache),
                "warm": (export, cache),
                "warm, another folder": ([*export[:-1], str(Path(folder) / "other")], cache),
                "cold, one process": ([*export, "--no-cache", "--jobs", "1"], {}),
            }
            for name, (command, environment) in runs.items():
                start = time.perf_counter()
                subprocess.run(  # noqa: S603 - our own commands
                    [sys.executable, *command], check=True, capture_output=True, env={**os.environ, **environment}
                )
                times.setdefault(name, []).append(time.perf_counter() - start)
    plain = median(times["plain script"])
    print(f"{'':<22} {'s':>6}  {'times plain':>11}")  # noqa: T201
    for name, each in times.items():
        print(f"{name:<22} {median(each):>6.1f}  {median(each) / plain:>11.2f}")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
