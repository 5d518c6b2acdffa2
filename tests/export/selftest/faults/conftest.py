"""A healthy chain of artifacts, made once, and the pipeline with a fault in one of its stages."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export.pipeline import handover, judging
from export.pipeline import run as pipeline
from export.pipeline.outcome import Outcome
from export.progress import Silent
from export.request.request import Request
from export.targets.coreml.options import CoreMlOptions
from export.targets.registry import SHARED
from export.targets.target import Job, Make
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.precision import Precision
from tests.once import Models, measured_once
from tests.stages import STAGES, replace_stages
from validation.blame.ranking import Blame

SIZE = 128  # grids of 8, 4 and 2: the first is padded and has four windows
MODEL = "m0"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# All for iOS 16, so that the compressed packages are made of the same fp16 package that the others are.
COREML = {
    "fp16": CoreMlOptions(ios=16),
    "int8": CoreMlOptions(ios=16, weights_bits=8),
    "palette6": CoreMlOptions(ios=16, weights_bits=6),
}
"""Core ML's variants, all with image input and labels. Every other target's are its precisions."""


class Forge:
    """Makes the healthy artifact of every stage once, by the real stages, whichever jobs can share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shop: Workshop | None = None
        self._made: dict[tuple[object, ...], Artifact] = {}

    def healthy(self, name: str, shop: Workshop, job: Job) -> Artifact:
        """What the stage makes for a job; the stages before it are made for it where they were not."""
        names = [stage.name for stage, _ in job.plan]
        form = job.plan[names.index(name)][1]
        key = self._key(name, job, form)
        if key not in self._made:
            before = names[names.index(name) - 1] if name != names[0] else None
            source = self.healthy(before, shop, job) if before is not None else None
            self._shop = self._shop or shop  # it holds what was captured of the model
            own = replace(self._shop, folder=self._folder / str(len(self._made)))
            with quick_conversion():
                self._made[key] = STAGES[name](own, job, form, source)
        return replace(self._made[key], made_by=name)

    @staticmethod
    def _key(name: str, job: Job, form: Precision) -> tuple[object, ...]:
        if not isinstance(job.options, CoreMlOptions):
            return (name,) if name in SHARED else (name, job.target.name, job.precision)
        # The twin of an fp16 package is the float32 package, and both are what is compressed.
        compressed = form.weights.compressed
        return (form, job.options if compressed else replace(job.options, weights_bits=None, weights_method=None))


def _precision(target: str, variant: str) -> str:
    return "fp16" if target == "coreml" else variant


@contextmanager
def quick_conversion() -> Iterator[None]:
    """coremltools validates its program after each of a hundred passes: half of the time, and the same bytes."""
    from coremltools.converters.mil.mil import Program

    # It also puts filters of warnings of its own before everybody else's.
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True):
        patch.setattr(Program, "validate", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    """Of the one model that faults are planted in."""
    return Forge(tmp_path_factory.mktemp("chain"))


@pytest.fixture(autouse=True)
def no_blame(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a fault is seen is the question here, whose it is takes seconds each: tests/validation/test_blame.py."""
    if "blames" not in request.keywords:
        for module, name in ((judging, "blame_artifact"), (judging, "blame_rewrite"), (handover, "blame_artifact")):
            monkeypatch.setattr(module, name, lambda *_, **__: Blame(()))


Spoil = Callable[[str, str, str | None, Callable[[Path], object] | None], None]
Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """The one model that the faults are planted in."""
    with measured_once() as models:
        yield models


@pytest.fixture
def spoil(forge: Forge, models: Models, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Let the real pipeline make the healthy files, the one of `stage` spoiled by `plant`."""

    def spoiled(target: str, variant: str, stage: str | None, plant: Callable[[Path], object] | None) -> None:
        def replayed(name: str) -> Make:
            def made(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
                healthy = forge.healthy(name, shop, job)
                path = healthy.copied_to(shop.path(name, job, ".x").parent)
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
                    interface=healthy.interface,
                )

            return made

        replace_stages(monkeypatch, **{name: replayed(name) for name in STAGES})

    return spoiled


@pytest.fixture
def run(spoil: Spoil, models: Models, tmp_path: Path) -> Run:
    """The outcome of the real pipeline with a file spoiled."""

    def runs(
        target: str, variant: str, stage: str | None = None, plant: Callable[[Path], object] | None = None
    ) -> Outcome:
        spoil(target, variant, stage, plant)
        request = Request(
            models=(MODEL,),
            targets=(target,),
            precision=_precision(target, variant),
            weights="seeded",
            image_size=SIZE,
            out=tmp_path / "out",
            time=False,
            options={"coreml": COREML[variant]} if target == "coreml" else {},
            calibrate="golden" if target != "coreml" and variant == "int8" else None,
            kit=False,
        )
        (outcome,) = pipeline.run(request, Silent(), prepared=models.of(request))
        return outcome

    return runs


def _made_once(forge: Forge, name: str) -> Make:
    return lambda shop, job, _, __: forge.healthy(name, shop, job)


Export = Callable[[tuple[str, int, int], str, CoreMlOptions], Outcome]


@pytest.fixture(scope="module")
def export() -> Iterator[Export]:
    """The real pipeline on (model, seed, size), whatever Core ML's variants share made and measured once.

    Of one model at a time: the next takes the place of the last.
    """
    made: dict[tuple[str, int, int], tuple[Models, dict[str, Make]]] = {}
    with ExitStack() as stack:

        def exports(what: tuple[str, int, int], precision: str, options: CoreMlOptions) -> Outcome:
            if what not in made:
                stack.close()
                made.clear()
                models = stack.enter_context(measured_once())
                forge = Forge(Path(stack.enter_context(tempfile.TemporaryDirectory())))
                made[what] = models, {name: _made_once(forge, name) for name in STAGES}
            models, own = made[what]
            model, seed, size = what
            with tempfile.TemporaryDirectory() as out:
                asked = Request(
                    models=(model,),
                    targets=("coreml",),
                    precision=precision,
                    weights=f"seeded:{seed}",
                    image_size=size,
                    out=Path(out),
                    time=False,
                    options={"coreml": options},
                    kit=False,
                )
                (outcome,) = pipeline.run(asked, Silent(), prepared=models.of(asked), stages=own)
            return outcome

        yield exports
