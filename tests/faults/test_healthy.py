"""No false alarm: what nobody spoilt passes, whatever the weights were drawn from."""

from pathlib import Path

import pytest

from export import pipeline
from export.outcome import Exit
from export.request import Request
from runtimes.base import Evidence


@pytest.mark.parametrize(
    ("seed", "size", "precision"),
    [(1, 64, "fp32"), (2, 64, "fp16"), (3, 96, "fp32"), (4, 128, "fp16"), (0, 224, "fp32")],
)
def test_healthy_runs_pass(seed: int, size: int, precision: str, tmp_path: Path) -> None:
    request = Request(
        models=("m0",),
        targets=("onnx", "openvino"),
        precision=precision,
        weights=f"seeded:{seed}",
        image_size=size,
        out=tmp_path,
        time=False,
    )
    outcomes = list(pipeline.run(request, pipeline.Silent()))
    assert [outcome.code(Evidence.NATIVE) for outcome in outcomes] == [Exit.OK, Exit.OK]
