"""No false alarm: what nobody spoiled passes, whatever the weights were drawn from."""

import functools
from pathlib import Path
from typing import Any

import pytest

from efficientvit.weights.source import find_weights
from export.exits import Exit
from export.pipeline import run as pipeline
from export.progress import Silent
from export.request.request import Request
from export.targets.registry import SHARED
from export.targets.target import Job, Make
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.precision import Precision
from runtimes.runtime import Evidence
from tests.stages import STAGES, replace_stages
from validation.gates.rewrite import rewrite_gates
from validation.reference import model as reference


@pytest.mark.parametrize(
    ("model", "seed", "size"),
    [("m0", 0, 64), ("m0", 1, 64), ("m0", 2, 64), ("m0", 3, 96), ("m0", 4, 128), ("m2", 5, 224)],
)
def test_healthy_runs_pass(model: str, seed: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runtimes in both precisions."""
    _share(monkeypatch, tmp_path / "shared")
    codes = []
    for precision in ("fp32", "fp16"):
        request = Request(
            models=(model,),
            targets=("onnx", "openvino"),
            precision=precision,
            weights=f"seeded:{seed}",
            image_size=size,
            out=tmp_path / "out",
            time=False,
        )
        codes += [outcome.code(Evidence.NATIVE) for outcome in pipeline.run(request, Silent())]
    assert codes == [Exit.OK] * 4


def _share(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The second run takes the weights, the reference and the traced files of the first: they are the same."""
    weights, measure = functools.cache(find_weights), reference.ReferenceModel
    measured: list[reference.ReferenceModel] = []
    made: dict[str, Artifact] = {}

    def once(*arguments: Any) -> reference.ReferenceModel:
        measured[:] = measured or [measure(*arguments)]
        return measured[0]

    def made_once(name: str) -> Make:
        def stage(shop: Workshop, job: Job, precision: Precision, source: Artifact | None) -> Artifact:
            if name not in made:
                made[name] = STAGES[name](Workshop(shop.weights, shop.reference, folder), job, precision, source)
            return made[name]

        return stage

    shared = {name: made_once(name) if name in SHARED else stage for name, stage in STAGES.items()}
    monkeypatch.setattr(pipeline, "find_weights", lambda option, name, size, _: weights(option, name, size))
    monkeypatch.setattr(pipeline, "rewrite_gates", functools.cache(rewrite_gates))
    replace_stages(monkeypatch, **shared)
    monkeypatch.setattr(reference, "ReferenceModel", once)
