"""The healthy artifacts of one model, made once by the real stages, and copies of them with a fault."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from export.request.request import Request
from export.selftest.faults.fault import Fault, Rng
from export.targets.coreml.options import CoreMlOptions
from export.targets.onnx.calibration import GOLDEN
from export.targets.target import Job, Stage
from export.targets.workshop import Workshop
from export.workers.gc_freeze import collector_at_rest
from export.workers.progress import Step
from runtimes.artifact import Artifact, digest
from runtimes.precision import Precision
from runtimes.registry import runtime_for
from runtimes.wrapping import Answers, Feed, Gives, Takes
from validation.int8.ranges import with_calibration
from validation.judge import judge
from validation.reference.model import ReferenceModel
from validation.verdict import Verdict

_BITS = {"int8": 8, "palette6": 6}

WRAPPED = "wrapped"
"""float32 that takes photos and names the best classes."""

_ENGINE = "build"
"""Left out: most hosts cannot run an engine. TensorRT's faults are planted in what it is built from."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage made, and of what."""

    artifact: Artifact
    source: Artifact | None


class Artifacts:
    """Makes the artifact of each stage when it is first asked for, whichever targets and variants share it."""

    def __init__(self, shop: Workshop, folder: Path) -> None:
        self._shop = shop
        self._folder = folder
        self._made: dict[str, Artifact] = {}

    def chain(self, job: Job, step: Step = lambda _: None) -> dict[str, Made]:
        """By stage, in order.

        Raises:
            MissingExtra: what makes them is not installed.
        """
        result: dict[str, Made] = {}
        source: Artifact | None = None
        for stage, form in job.plan:
            name = stage.name
            if name == _ENGINE:
                break
            # Core ML's compressed packages are made of the same float16 package.
            own = (job.target.name, job.precision, form.weights, "image" if job.image_input else "tensor")
            key = name if stage.shared else "-".join((name, *own))
            if key not in self._made:
                step(f"{job.target.name} {job.precision}: {name}")
                self._made[key] = self.make(key, stage, job, form, source)
            source, before = self._made[key], source
            result[name] = Made(source, before)
        return result

    def make(self, key: str, stage: Stage, job: Job, form: Precision, source: Artifact | None) -> Artifact:
        """What the stage makes, in a folder called `key`."""
        with collector_at_rest():
            return stage.make(replace(self._shop, folder=self._folder / key), job, form, source)


def job_for(model: str, target: str, variant: str) -> Job:
    """The export of one target in a variant: a precision, `WRAPPED`, or how a Core ML package stores its weights."""
    if variant == WRAPPED:
        feed, answers = Feed(Takes.IMAGE), Answers(Gives.TOPK, 2)
        (job,) = Request((model,), (target,), "fp32", kit=False, feed=feed, answers=answers).jobs()
        return job
    precision, options = variant, {}
    if target == "coreml":
        precision = "fp32" if variant == "fp32" else "fp16"
        options = {target: CoreMlOptions(ios=16, weights_bits=_BITS.get(variant))}
    calibrate = GOLDEN if precision == "int8" else None
    (job,) = Request((model,), (target,), precision, kit=False, options=options, calibrate=calibrate).jobs()
    return job


def verdict_on(made: Made, model: ReferenceModel) -> Verdict:
    """By every gate, against `model`. Raises as `judge` does."""
    artifact = made.artifact
    reference = model.at(artifact.precision, image_input=artifact.interface.image_input)
    return judge(artifact, with_calibration(reference, artifact, made.source), runtime_for(artifact.format))


@contextmanager
def spoiled(made: Made, fault: Fault, folder: Path, rng: Rng) -> Iterator[Made]:
    """A copy in `folder` with the fault. Raises what the plant does where the model has no place for it."""
    shutil.rmtree(folder, ignore_errors=True)
    path = made.artifact.copied_to(folder)
    with fault.planted(path, rng):
        yield replace(made, artifact=replace(made.artifact, path=path, sha256=digest(path)))
