"""One model and its healthy artifacts, prepared by whichever of pytest-xdist's processes needs them first."""

import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.weights.source import Weights, find_weights
from export.selftest.artifacts import Artifacts, Made, job_for, spoiled
from export.selftest.faults.fault import Fault
from export.selftest.faults.table import FORMS
from export.selftest.planting import rng_for
from export.targets.target import Job, Stage
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.precision import Precision
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel

T = TypeVar("T")

SIZE = 128  # grids of 8, 4 and 2: the first is padded and has four windows
MODEL = "m0"

FULL = bool(os.environ.get("VIT_EXPORT_FULL"))
"""With VIT_EXPORT_FULL=1 every fault is planted from more seeds, and the healthy matrix is the whole family's."""


class SharedArtifacts(Artifacts):
    """Kept in a folder for every process."""

    def make(self, key: str, stage: Stage, job: Job, form: Precision, source: Artifact | None) -> Artifact:
        def made() -> Artifact:
            with own_filters():
                return super(SharedArtifacts, self).make(key, stage, job, form, source)

        artifact: Artifact = _once(self._folder / key, made)
        return artifact


def _once(path: Path, prepare: Callable[[], T]) -> T:
    kept = path.with_name(f"{path.name}.pickle")
    with FileLock(f"{path}.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(prepare()))
    result: T = pickle.loads(kept.read_bytes())
    return result


@contextmanager
def own_filters() -> Iterator[None]:
    """coremltools puts filters of warnings of its own before everybody else's."""
    with warnings.catch_warnings(record=True):
        yield


@dataclass(frozen=True)
class Prepared:
    """The one model that faults are planted in, its reference on one image of each kind, and its artifacts."""

    weights: Weights
    model: ReferenceModel
    artifacts: Artifacts

    def made(self, target: str, variant: str) -> dict[str, Made]:
        """By stage."""
        return self.artifacts.chain(job_for(MODEL, target, variant))


def prepare(folder: Path) -> Prepared:
    """What is kept in `folder`, or made and kept there."""

    def measured() -> tuple[Weights, ReferenceModel]:
        weights = find_weights("seeded", MODEL, square(SIZE))
        model = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=square(SIZE))).one_of_each_kind())
        for form in FORMS:
            job = job_for(MODEL, *form)
            for _, precision in job.plan:
                model.at(precision, image_input=job.image_input)
        return weights, model

    weights, model = _once(folder / "reference", measured)
    return Prepared(weights, model, SharedArtifacts(Workshop(weights, model, folder), folder))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    (root / "planted").mkdir(exist_ok=True)
    return prepare(root / "planted")


Spoiled = Callable[..., Made]


@pytest.fixture
def planted(prepared: Prepared, tmp_path: Path) -> Iterator[Spoiled]:
    """The artifact of a fault's stage with the fault in it."""
    with ExitStack() as stack:

        def plant(fault: Fault, seed: int = 0) -> Made:
            made = prepared.made(fault.target, fault.variant)[fault.stage]
            return stack.enter_context(spoiled(made, fault, tmp_path / "spoiled", rng_for(seed, str(fault))))

        yield plant
