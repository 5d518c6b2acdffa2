"""What the identity gate costs of a cold export: its share of the processor time, imports and conversions included.

    python -m benchmarks.proof_share m0 m2 m5

Each model in a process of its own: every artifact that `-t onnx,openvino,coreml` makes, without a cache, not timed.
*Rewrites*: the proof of the deploy form, once a model.
"""

import subprocess
import sys
import tempfile
import time
from typing import Any

from export import api
from export.pipeline import prepare
from validation.proof import identity


def main(models: list[str]) -> None:
    """Print the table."""
    print(f"{'model':<6} {'CPU s':>7} {'identity':>9} {'share':>7} {'rewrites':>9} {'share':>7}", flush=True)  # noqa: T201
    for model in models:
        subprocess.run([sys.executable, "-m", "benchmarks.proof_share", "--alone", model], check=True)  # noqa: S603


def alone(model: str) -> None:
    """One line of it."""
    spent = {"prove": 0.0, "proof_gates": 0.0}

    def time_in(module: Any, name: str) -> None:
        compute = getattr(module, name)

        def timed(*given: Any, **more: Any) -> Any:
            start = time.process_time()
            try:
                return compute(*given, **more)
            finally:
                spent[name] += time.process_time() - start

        setattr(module, name, timed)

    time_in(identity, "prove")
    time_in(prepare, "proof_gates")
    with tempfile.TemporaryDirectory() as folder:
        api.export(
            model,
            target=["onnx", "openvino", "coreml"],
            weights="seeded",
            no_time=True,
            no_cache=True,
            jobs=1,
            out=folder,
        )
    total = time.process_time()
    shares = "".join(f" {each:>9.1f} {each / total:>7.1%}" for each in spent.values())
    print(f"{model:<6} {total:>7.1f}{shares}", flush=True)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        alone(sys.argv[2])
    else:
        main(sys.argv[1:] or ["m0", "m2", "m5"])
