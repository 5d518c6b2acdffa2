"""`vit-export selftest`: the gates, tried on faults that are planted in artifacts of the user's own weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from efficientvit.errors import Unavailable, VitExportError
from efficientvit.size import ImageSize
from efficientvit.weights.reading import AS_IT_IS, Reading
from efficientvit.weights.source import Weights, find_weights
from export.selftest.faults import table
from export.selftest.planting import FED, Part, not_planted, plant
from export.selftest.result import Healthy, SelfTest
from export.targets.registry import SHARED
from export.workers.progress import Progress, as_progress

if TYPE_CHECKING:
    from export.cluster.client import Workers

Forms = Sequence[tuple[str, str]]
"""Targets and variants."""

_COMPRESSED = (("coreml", "int8"), ("coreml", "palette6"))
_FEEDS = "onnx"
"""The target whose file is fed wrong inputs."""


def selftest(
    model: str,
    option: str,
    *,
    image_size: ImageSize | None = None,
    reading: Reading = AS_IT_IS,
    seed: int = 0,
    full: bool = False,
    forms: Forms = table.FORMS,
    progress: Progress | None = None,
    workers: "Workers | None" = None,
) -> SelfTest:
    """Plant every fault once, at a place and of a size that `seed` decides.

    `full`: in compressed packages as well, which take long to make. `forms`: targets and variants to plant in.
    `workers`: of a cluster, each of which takes all faults of a target.

    Raises:
        BadInput, DownloadFailed: the weights cannot be used, or had.
        Unavailable: the scheduler cannot be reached or is gone, or no worker can make an ONNX file.
    """
    told = as_progress(None) if progress is None else progress
    told.step("weights")
    weights = find_weights(option, model, image_size, reading=reading)
    asked = [form for form in forms if full or form not in _COMPRESSED]
    if workers is None:
        return _together(weights, seed, [plant(weights, asked, model_itself=True, seed=seed, step=told.step)], ())
    return _elsewhere(workers, weights, asked, seed, told)


def planted_there(progress: Progress, _: object, weights: Weights, forms: Forms, model_itself: bool, seed: int) -> Part:
    """On a worker."""
    return plant(weights, forms, model_itself=model_itself, seed=seed, step=progress.step)


def _elsewhere(workers: "Workers", weights: Weights, forms: Forms, seed: int, progress: Progress) -> SelfTest:
    """By target, in the order of the forms; what no worker can make is told as not planted."""
    from export.cluster.abilities import makes
    from export.cluster.crew import Needs
    from export.cluster.errand import Errand

    by_target: dict[str, list[tuple[str, str]]] = {_FEEDS: []}
    for form in forms:
        by_target.setdefault(form[0], []).append(form)
    errands = [
        Errand(
            planted_there,
            (weights, tuple(own), target == _FEEDS, seed),
            (Needs(frozenset({makes(target)})),),
            f"the faults in {target}",
        )
        for target, own in by_target.items()
    ]
    found: dict[str, Part] = {}
    unplanted: list[str] = []
    for number, part in workers.call(errands, progress):
        target = list(by_target)[number]
        if isinstance(part, Unavailable) and target != _FEEDS:
            unplanted += [not_planted(*form, part) for form in by_target[target]]
        elif isinstance(part, VitExportError):
            raise part
        else:
            found[target] = part
    return _together(weights, seed, [found[target] for target in by_target if target in found], unplanted)


def _together(weights: Weights, seed: int, parts: Sequence[Part], unplanted: Sequence[str]) -> SelfTest:
    """The result; the healthy file of a stage that several targets share counts once, and what is fed comes last."""
    healthy: dict[object, Healthy] = {}
    for part in parts:
        for each in part.healthy:
            healthy.setdefault(each.stage if each.stage in SHARED else (each.target, each.variant, each.stage), each)
    return SelfTest(
        weights,
        parts[0].check,
        seed,
        tuple(sorted(healthy.values(), key=lambda each: each.target == FED)),
        tuple(each for part in parts for each in part.detections),
        tuple(each for part in parts for each in part.inputs),
        (*(each for part in parts for each in part.unplanted), *unplanted),
    )
