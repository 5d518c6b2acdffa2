"""Every artifact of a recipe with the request that makes it: checked, before anything is made."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.errors import BadInput
from efficientvit.spec import PUBLISHED_SIZE
from export.release.lines import Place
from export.release.matrix import Asked, Setting, Settings, asked, folder_of, shared_keys
from export.release.options import on_disk, paths
from export.release.recipe import Recipe
from export.request.keywords import request_of
from export.request.options import command_of, flag
from export.request.request import Request, slug
from export.request.target_options import flags, keyword
from export.targets.registry import find_target
from export.targets.target import Job
from runtimes.precision import Dtype, Precision


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a release, before it is made. `command`: of `vit-export export`, to make it alone.

    `name`: of its folder, without what only the checkpoint can tell: its digest, and an image size that nothing else
    says.
    """

    name: str
    request: Request
    job: Job
    command: tuple[str, ...]
    place: Place


def artifacts_of(recipe: Recipe, out: Path | None = None) -> tuple[Artifact, ...]:
    """Every artifact that a recipe asks for. `out`: the release's folder, in the place of the recipe's.

    Raises:
        BadRecipe: options that do not go together, files that are not there, two artifacts with one folder.
        StageFailed: an installed target that is asked for cannot be used.
    """
    used: set[Place] = set()
    folder = folder_of(recipe) if out is None else out
    every = tuple(asked(recipe, used))
    if not every:
        recipe.refuse(
            (), "there is nothing to make", expected="a model in [models] or [matrix], or an [[artifact]]", got="none",
            next_step='add, for example, a table [models] with the line m2 = "m2.pth"',
        )  # fmt: skip
    found = tuple(_artifact(recipe, each, folder, used) for each in every)
    for place in shared_keys(recipe):
        if place not in used:
            recipe.refuse(
                place, "no artifact of the recipe uses this", expected="an artifact that it applies to",
                next_step="correct it, or leave it out",
            )  # fmt: skip
    _require_distinct(recipe, found)
    return found


def _artifact(recipe: Recipe, each: Asked, folder: Path, used: set[Place]) -> Artifact:
    facts = each.facts
    try:
        settings = {name: one for name, one in each.settings.items() if not one.shared or _applies(name, one, facts)}
        used |= {("models", each.model), *(one.place for one in settings.values())}
        values = {**_values(recipe, settings), "out": folder}
        if "out" in settings:
            values["out"] = folder / str(settings["out"].value)
        request = request_of(each.model, values)
        (job,) = request.jobs(installed=False)
    except BadInput as error:
        named = " ".join(str(facts[name]) for name in ("model", "target", "precision") if name in facts)
        what = f"{named}: {error.what}"
        recipe.refuse(
            _at_fault(error, each), what, expected=error.expected, got=error.got,
            next_step=error.next_step or "vit-export export --help says what goes together",
        )  # fmt: skip
    name = slug(job, request.image_size or PUBLISHED_SIZE, _suffix(request.weights))
    return Artifact(name, request, job, command_of((each.model,), values), each.place)


def _values(recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """What `request_of` takes: files and folders as seen from here, and not from the recipe's folder.

    Raises:
        BadRecipe: one is not there.
    """
    found = {name: one.value for name, one in settings.items()}
    for name in paths() & set(settings) - {"out"}:
        one = settings[name]
        if not on_disk(name, one.value):
            continue
        path = recipe.folder / one.value
        if not path.exists() and name != "timing_cache":
            recipe.refuse(
                one.place, f"{flag(name)} names nothing that is there", expected=str(path), got=one.value,
                next_step=f"paths are seen from the recipe's folder, {recipe.folder.resolve()}",
            )  # fmt: skip
        found[name] = str(path)
    return found


def _at_fault(error: BadInput, each: Asked) -> Place:
    """The key that an error is about: whose option it names, else whose value, else that of the artifact."""
    settings = each.settings
    by_option = [
        settings[name].place
        for said in (error.what, str(error.got))
        for name in settings
        if re.search(rf"{flag(name)}(?![-\w])", said)
    ]
    by_value = [one.place for one in settings.values() if str(one.value) == error.got]
    return next(iter((*by_option, *by_value)), each.place)


def _applies(name: str, setting: Setting, facts: Mapping[str, Any]) -> bool:
    """Whether a shared option changes anything of this artifact: what does not is left out."""
    target = find_target(facts["target"])
    plan = target.precisions.get(facts.get("precision", ""))
    made: Precision | None = None if plan is None else plan[-1][1]
    classes: bool = str(facts.get("head", "logits")) == "logits"
    own = [each for each in target.options.flags().values() if keyword(each) == name]
    match name:
        case "calibrate":
            return bool(facts.get("precision") == "int8")
        case "reduce_range" | "all_int8":
            return made is not None and made.activations is Dtype.UINT8
        case "quality_budget":
            return bool(made is not None and made.weights.compressed) or "weights_bits" in facts
        case "eval" | "accuracy_budget":
            return classes
        case "labels":
            return classes and (bool(own) or "eval" in facts)
    of_no_target = name not in {keyword(each) for _, each in flags()}
    return of_no_target or any(not each.choices or str(setting.value) in each.choices for each in own)


def _suffix(weights: str) -> str:
    """Of the folder's name, as far as the checkpoint need not be read."""
    if weights in ("auto", "pretrained"):
        return ""
    word, _, seed = weights.partition(":")
    if word == "seeded":
        return f"seed{seed}-untrained" if int(seed or 0) else "untrained"
    return Path(weights).stem


def _require_distinct(recipe: Recipe, found: Sequence[Artifact]) -> None:
    first: dict[tuple[Path, str, str], Artifact] = {}
    for each in found:
        own = (each.request.out, each.name, each.request.weights)
        if own in first:
            recipe.refuse(
                each.place, f"two artifacts have the folder {each.request.out / each.name}",
                expected="artifacts that differ in what they are",
                next_step='leave one out, or give one a folder of its own within the release\'s: out = "second"',
            )  # fmt: skip
        first[own] = each
