"""No false alarm: what nobody spoiled passes, whatever the weights were drawn from."""

from pathlib import Path

import pytest

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
from tests.once import Models
from tests.stages import STAGES


@pytest.mark.parametrize(
    ("model", "seed", "size"),
    [("m0", 0, 64), ("m0", 1, 64), ("m0", 2, 64), ("m0", 3, 96), ("m0", 4, 128), ("m2", 5, 224)],
)
def test_healthy_runs_pass(model: str, seed: int, size: int, tmp_path: Path) -> None:
    """Both runtimes in both precisions."""
    models, shared, codes = Models(), _shared(tmp_path / "shared"), []
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
        outcomes = pipeline.run(request, Silent(), prepared=models.of(request), stages=shared)
        codes += [outcome.code(Evidence.NATIVE) for outcome in outcomes]
    assert codes == [Exit.OK] * 4


def _shared(folder: Path) -> dict[str, Make]:
    """The second run takes the traced files of the first: they are the same."""
    made: dict[str, Artifact] = {}

    def made_once(name: str) -> Make:
        def stage(shop: Workshop, job: Job, precision: Precision, source: Artifact | None) -> Artifact:
            if name not in made:
                made[name] = STAGES[name](Workshop(shop.weights, shop.reference, folder), job, precision, source)
            return made[name]

        return stage

    return {name: made_once(name) if name in SHARED else stage for name, stage in STAGES.items()}
