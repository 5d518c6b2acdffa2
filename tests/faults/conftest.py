"""A healthy chain of artifacts, made once, and the pipeline with a fault in one of its stages."""

import functools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from efficientvit.preprocess import Preprocessing
from export import pipeline, stages
from export.coreml_options import CoreMlOptions
from export.outcome import Outcome
from export.request import Job, Request
from export.stages import STAGES, Workshop
from export.targets import TARGETS
from export.weights import find_weights
from runtimes import mil, mil_program, neural_engine
from runtimes.artifact import Artifact, Dtype, Precision, digest
from validation import reference, self_check
from validation.golden_synthetic import synthetic
from validation.judge import judge
from validation.rewrite import rewrite_gates
from validation.verdict import Verdict

SIZE = 128  # grids of 8, 4 and 2: the first is padded and has four windows
MODEL = "m0"

# As they are before a test puts others in their place.
SELF_CHECK, VISIBILITY, REFERENCE_MODEL = self_check.self_check, self_check.visibility, reference.ReferenceModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# All for iOS 16, so that the compressed packages are made of the same fp16 package that the others are.
COREML = {
    "fp16": CoreMlOptions(ios=16),
    "int8": CoreMlOptions(ios=16, weights=Dtype.INT8),
    "palette6": CoreMlOptions(ios=16, weights=Dtype.PALETTE6),
}
"""Core ML's variants, all with image input and labels. Every other target's are its precisions."""


class Chain:
    """The healthy artifact of every stage, made by the real stages from seeded weights when first asked for."""

    def __init__(self, folder: Path) -> None:
        weights = find_weights("seeded", MODEL, SIZE)
        golden = synthetic(Preprocessing(image_size=SIZE))
        self._shop = Workshop(weights, reference.ReferenceModel(weights.model, golden), folder)
        self._made: dict[tuple[str, ...], Artifact] = {}

    def stages(self, target: str, variant: str) -> Mapping[str, Artifact]:
        """The artifacts of a variant's plan by their stages."""
        coreml = COREML[variant] if target == "coreml" else None
        job = Job(MODEL, TARGETS[target], _precision(target, variant), 1, 18, coreml)
        source: Artifact | None = None
        result: dict[str, Artifact] = {}
        with quick_conversion():
            for name, form in job.plan:
                # A compressed package's own stage is the last; those before it, it shares with the plain one.
                key = (name,) if name in stages.SHARED else (target, job.precision, name)
                if name == "compress":
                    key = (*key, variant)
                if key not in self._made:
                    shop = replace(self._shop, folder=self._shop.folder / "-".join(key))
                    self._made[key] = STAGES[name](shop, job, form, source)
                source = result[name] = self._made[key]
        return result


def _precision(target: str, variant: str) -> str:
    return "fp16" if target == "coreml" else variant


def copied(artifact: Artifact, folder: Path) -> Path:
    """A copy of an artifact's files, to be spoilt."""
    for file in artifact.files():
        copy = folder / file.relative_to(artifact.path.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return folder / artifact.path.name


@contextmanager
def quick_conversion() -> Iterator[None]:
    """coremltools validates its program after each of a hundred passes: half of the time, and the same bytes."""
    from coremltools.converters.mil.mil import Program

    # It also puts filters of warnings of its own before everybody else's.
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True):
        patch.setattr(Program, "validate", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(tmp_path_factory.mktemp("chain"))


Spoil = Callable[[str, str, str | None, Callable[[Path], object] | None], None]
Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def measured() -> Iterator[None]:
    """Of the one model that the faults are planted in."""
    with measured_once():
        yield


@contextmanager
def measured_once() -> Iterator[pytest.MonkeyPatch]:
    """Weights, reference, self-check, rewrite gates and what is healthy are the same in every run: once will do."""
    with pytest.MonkeyPatch.context() as patch:
        weights = functools.cache(find_weights)
        patch.setattr(pipeline, "find_weights", lambda option, model, size, _: weights(option, model, size))
        patch.setattr(pipeline, "rewrite_gates", functools.cache(rewrite_gates))
        patch.setattr(pipeline, "judge", judged_once())
        program = _parsed_once()
        for module in (mil, mil_program, neural_engine):
            patch.setattr(module, "load_program", program)
        patch.setattr(self_check, "self_check", _once(SELF_CHECK))
        patch.setattr(self_check, "visibility", functools.cache(VISIBILITY))
        patch.setattr(reference, "ReferenceModel", _once(REFERENCE_MODEL))
        yield patch


def judged_once() -> Callable[..., Verdict]:
    """A file that was not spoilt is judged once: its verdict is a matter of its bytes and the reference."""
    known: dict[tuple[Any, ...], tuple[reference.Reference, Verdict]] = {}

    def judged(artifact: Artifact, against: reference.Reference, runtime: Any, **options: Any) -> Verdict:
        key = (artifact.sha256, artifact.precision, artifact.interface, runtime.name, str(options), id(against))
        if key not in known:
            known[key] = (against, judge(artifact, against, runtime, **options))
        return replace(known[key][1], artifact=artifact)

    return judged


def _parsed_once() -> Callable[[Path], mil_program.Program]:
    """The same for a Core ML package: its program is read a dozen times in a run."""
    known: dict[str, mil_program.Program] = {}
    load = mil_program.load_program

    def loaded(package: Path) -> mil_program.Program:
        key = digest(package)
        if key not in known:
            known[key] = load(package)
        return known[key]

    return loaded


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

    def spoilt(target: str, variant: str, stage: str | None, plant: Callable[[Path], object] | None) -> None:
        def replayed(name: str) -> stages.Stage:
            def made(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
                healthy = chain.stages(target, variant)[name]
                path = copied(healthy, shop.path(name, job, ".x").parent)
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

        monkeypatch.setattr(pipeline, "STAGES", {name: replayed(name) for name in STAGES})

    return spoilt


@pytest.fixture
def run(spoil: Spoil, tmp_path: Path) -> Run:
    """The outcome of the real pipeline with a file spoilt."""

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
            coreml=COREML[variant] if target == "coreml" else CoreMlOptions(),
            kit=False,
        )
        (outcome,) = pipeline.run(request, pipeline.Silent())
        return outcome

    return runs


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest) -> Iterator[Callable[..., Outcome]]:
    """The real pipeline on a (model, seed, size), whatever Core ML's variants have in common made and measured once."""
    model, seed, size = request.param
    with tempfile.TemporaryDirectory() as scratch, measured_once() as patch:
        forge = _Forge(Path(scratch))
        patch.setattr(pipeline, "STAGES", {name: forge.stage(name) for name in STAGES})

        def runs(precision: str, options: CoreMlOptions) -> Outcome:
            asked = Request(
                models=(model,),
                targets=("coreml",),
                precision=precision,
                weights=f"seeded:{seed}",
                image_size=size,
                out=Path(scratch) / "out",
                time=False,
                coreml=options,
                kit=False,
            )
            (outcome,) = pipeline.run(asked, pipeline.Silent())
            return outcome

        yield runs


class _Forge:
    """Makes each package of one model once: a float32 package is the twin of the fp16 one, and so on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shop: Workshop | None = None
        self._made: dict[tuple[Precision, CoreMlOptions], Artifact] = {}

    def stage(self, name: str) -> stages.Stage:
        def made(shop: Workshop, job: Job, form: Precision, source: Artifact | None) -> Artifact:
            assert job.coreml is not None
            self._shop = self._shop or shop  # it holds what was captured of the model
            key = (form, replace(job.coreml, weights=form.weights if form.weights.compressed else None))
            if key not in self._made:
                own = replace(self._shop, folder=self._folder / str(len(self._made)))
                with quick_conversion():
                    self._made[key] = STAGES[name](own, job, form, source)
            return replace(self._made[key], made_by=name)

        return made
