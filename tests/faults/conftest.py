"""A healthy chain of artifacts, made once, and the pipeline with a fault in one of its stages."""

import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from efficientvit.preprocess import Preprocessing
from export import pipeline, stages
from export.outcome import Outcome
from export.request import Job, Request
from export.stages import STAGES, Workshop
from export.targets import TARGETS
from export.weights import find_weights
from runtimes.artifact import Artifact, Precision
from validation import reference, self_check
from validation.golden_synthetic import synthetic
from validation.rewrite import rewrite_gates

SIZE = 128  # grids of 8, 4 and 2: the first is padded and has four windows
MODEL = "m0"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Chain:
    """The healthy artifact of every stage, by (target, precision, stage)."""

    made: dict[tuple[str, str, str], Artifact]

    def copied(self, key: tuple[str, str, str], folder: Path) -> Path:
        """A copy of the files of an artifact, to be spoilt."""
        artifact = self.made[key]
        for file in artifact.files():
            shutil.copyfile(file, folder / file.name)
        return folder / artifact.path.name


KEYS = (("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp32"), ("openvino", "fp16"))


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Made by the real stages from seeded weights."""
    weights = find_weights("seeded", MODEL, SIZE)
    golden = synthetic(Preprocessing(image_size=SIZE))
    shop = Workshop(weights, reference.ReferenceModel(weights.model, golden), tmp_path_factory.mktemp("chain"))
    made: dict[tuple[str, str, str], Artifact] = {}
    shared: dict[str, Artifact] = {}
    for target, precision in KEYS:
        job = Job(MODEL, TARGETS[target], precision, 1, 18)
        source: Artifact | None = None
        for name, form in job.plan:
            if name not in shared or name not in stages.SHARED:
                shared[name] = STAGES[name](shop, job, form, source)
            source = made[target, precision, name] = shared[name]
    return Chain(made)


Spoil = Callable[[str, str, str | None, Callable[[Path], object] | None], None]
Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def measured() -> Iterator[None]:
    """Weights, reference, self-check and rewrite gates are the same in every run: measure them once."""
    with pytest.MonkeyPatch.context() as patch:
        weights = functools.cache(find_weights)
        patch.setattr(pipeline, "find_weights", lambda option, model, size, _: weights(option, model, size))
        patch.setattr(pipeline, "rewrite_gates", functools.cache(rewrite_gates))
        patch.setattr(self_check, "self_check", _once(self_check.self_check))
        patch.setattr(reference, "ReferenceModel", _once(reference.ReferenceModel))
        yield


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember results by the first argument (and the precisions asked for), which the tests keep alive."""
    known: dict[tuple[int, str], tuple[Any, Any]] = {}

    def remembered(first: Any, *others: Any) -> Any:
        key = (id(first), str(others[1:]))
        if key not in known:
            known[key] = (first, function(first, *others))
        return known[key][1]

    return remembered


@pytest.fixture
def spoil(chain: Chain, measured: None, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Let the real pipeline make the healthy chain's files, the one of `stage` spoilt by `plant`."""

    def spoilt(target: str, precision: str, stage: str | None, plant: Callable[[Path], object] | None) -> None:
        def replayed(name: str) -> stages.Stage:
            def made(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
                healthy = chain.made[target, precision, name]
                path = chain.copied((target, precision, name), shop.path(name, job, ".x").parent)
                if name == stage and plant is not None:
                    plant(path)
                return Artifact.on_disk(
                    path,
                    healthy.format,
                    healthy.model,
                    made_by=name,
                    batch=healthy.batch,
                    precision=healthy.precision,
                    source=source,
                )

            return made

        monkeypatch.setattr(pipeline, "STAGES", {name: replayed(name) for name in STAGES})

    return spoilt


@pytest.fixture
def run(spoil: Spoil, tmp_path: Path) -> Run:
    """The outcome of the real pipeline with a file spoilt."""

    def runs(
        target: str, precision: str, stage: str | None = None, plant: Callable[[Path], object] | None = None
    ) -> Outcome:
        spoil(target, precision, stage, plant)
        request = Request(
            models=(MODEL,),
            targets=(target,),
            precision=precision,
            weights="seeded",
            image_size=SIZE,
            out=tmp_path / "out",
            time=False,
        )
        (outcome,) = pipeline.run(request, pipeline.Silent())
        return outcome

    return runs
