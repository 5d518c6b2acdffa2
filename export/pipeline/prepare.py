"""One model, prepared once for all artifacts that are made of it: weights, images, reference, self-check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from efficientvit.errors import BadOption
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import Weights, find_weights
from export.pipeline.outcome import Rewrite
from export.request.evaluation import accuracy_test
from export.request.request import Request
from export.targets.target import Job
from export.targets.wrapping import require_preprocessing
from export.workers.progress import Progress
from runtimes.artifact import Artifact
from validation.gates.rewrite import proof_gates, rewrite_gates
from validation.inputs.golden_set import Kind
from validation.inputs.photos import golden_images
from validation.int8.ranges import with_calibration

if TYPE_CHECKING:
    from runtimes.runtime import Array
    from validation.accuracy.top1 import AccuracyTest
    from validation.inputs.golden_set import GoldenSet
    from validation.reference.model import ReferenceModel
    from validation.reference.reference import Reference
    from validation.self_check import SelfCheck


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model's weights, the reference on its golden images, and the labeled images, if there are any."""

    weights: Weights
    reference: "ReferenceModel"
    labeled: "AccuracyTest | None"


@dataclass(frozen=True, slots=True, eq=False)
class Prepared(Loaded):
    """What was measured of it too: the self-check, and the rewrites with and without image input, as asked for."""

    check: "SelfCheck"
    rewrites: Mapping[bool, Rewrite]

    def reference_for(self, artifact: Artifact, source: Artifact | None = None) -> "Reference":
        """What the artifact is compared with; what calibration found in `source` was judged there, and is binding."""
        reference = self.reference.at(artifact.precision, image_input=artifact.interface.image_input)
        return with_calibration(reference, artifact, source)


def load(
    request: Request,
    model: str,
    jobs: Sequence[Job],
    progress: Progress,
    golden: "GoldenSet | None" = None,
    weights: Weights | None = None,
) -> Loaded:
    """Find the weights and read the images. `golden`, `weights`: in place of those that the request names.

    Raises:
        BadInput: the weights, the labels, the photos or the labeled images cannot be used.
        DownloadFailed: `-w pretrained` cannot be had.
    """
    from validation.reference.model import ReferenceModel

    progress.step(f"{model}: weights")
    reading = Reading(ema=request.ema, override=request.override, head=request.head)
    weights = weights or find_weights(request.weights, model, request.image_size, progress.download, reading)
    if request.release and weights.size_assumed:
        raise BadOption(
            "--release needs to know which input size the weights were trained at",
            expected="--image-size N, or a checkpoint that says it",
            got=f"nothing that says it; {weights.model.spec.image_size} was an assumption",
            next_step=f"add --image-size {weights.model.spec.image_size} if that is right",
        )
    if request.release and weights.unread and not {"mean", "std"} <= request.preprocessing.keys():
        raise BadOption(
            f"--release needs to know the weights' input, and {', '.join(weights.unread)} beside them is not read",
            expected="--mean and --std, or a config.json or checkpoint that says them",
            got="nothing but that file",
            next_step="give --mean and --std, and what else of --resize and --interpolation it states, or move it away",
        )
    progress.weights(weights.about)
    for job in jobs:
        job.options.check_classes(weights.model.spec.classes, job.batch)  # only now is their number known
    preprocessing = preprocessing_of(
        weights.model.spec.image_size, weights.facts, request.preprocessing, override=request.override
    )
    for job in jobs:
        require_preprocessing(job, preprocessing, weights.model.spec.classes)
    labeled = None
    if request.evaluation is not None:
        labeled = accuracy_test(
            request.evaluation,
            weights,
            preprocessing,
            request.labels,
            request.budgets,
            skip_bad=request.skip_bad_photos,
            step=progress.step,
        )
    images = golden or golden_images(request.golden, preprocessing, skip_bad=request.skip_bad_photos)
    return Loaded(weights, ReferenceModel(weights.model, images, request.budgets), labeled)


def measure(
    loaded: Loaded,
    jobs: Sequence[Job],
    calibration: "Mapping[str, Array] | None" = None,
    *,
    proofs_first: bool = False,
) -> Prepared:
    """Ask whether parity on these weights could fail at all, and whether the rewrites are exact.

    `calibration`: (n, 3, H, W) float32, the photos of `--calibrate` by folder. `proofs_first`: another process begins
    with the rest, and what either of them has found is remembered.
    """
    from validation.self_check import self_check

    if proofs_first:
        proof_gates(loaded.reference)
    inputs = {job.image_input for job in jobs}
    precisions = {job.plan[-1][1] for job in jobs}
    check = self_check(loaded.reference, precisions, all(inputs))
    check = _on_photos(check, loaded, calibration or {})
    proofs = proof_gates(loaded.reference)
    rewrites = {
        images: Rewrite((*rewrite_gates(loaded.reference, image_input=images), *proofs)) for images in sorted(inputs)
    }
    return Prepared(loaded.weights, loaded.reference, loaded.labeled, check, rewrites)


def _on_photos(check: "SelfCheck", loaded: Loaded, calibration: "Mapping[str, Array]") -> "SelfCheck":
    """The check, and whether a classifier's answer depends on the image on every photo that was given."""
    if not loaded.weights.model.spec.head.gives_logits:
        return check
    import torch

    from validation.real_inputs import MOST_EVALUATED, RealInputs
    from validation.reference.emulation import evaluate

    reference = loaded.reference
    photos = [row for row, kind in enumerate(reference.golden.kinds) if kind is Kind.PHOTO]
    seen = [RealInputs("--golden", reference.logits[photos])] if photos else []
    seen += [] if loaded.labeled is None else [RealInputs("--eval", loaded.labeled.logits)]
    for images in calibration.values():
        some = torch.from_numpy(images[:MOST_EVALUATED].copy())
        seen.append(RealInputs("--calibrate", evaluate(reference.trained, some).numpy()))
    shares = [each.share for each in seen if each.share is not None]
    failures = tuple(each.failure for each in seen if each.failure is not None)
    return replace(check, photo_share=min(shares, default=None), failures=(*check.failures, *failures))
