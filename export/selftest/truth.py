"""Where a file was spoiled, found without the model: what differs from the healthy file although it reads the same."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from efficientvit.errors import VitExportError
from runtimes.artifact import Artifact
from runtimes.evaluator.program import Program, Value
from runtimes.reader import Layer, Layers, Values
from runtimes.registry import open_layers, read_constants
from runtimes.runtime import Images, Mode
from validation.blame.ranking import Blame
from validation.metrics import relative_error

_BLAMED = 3
"""Among so many suspects the right one has to be."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a file was spoiled: `layers`, by name, and `constants` that are not as they were."""

    layers: frozenset[str]
    constants: frozenset[str]

    def named_by(self, blame: Blame) -> bool:
        """One of the first suspects is the layer, reads the constant, or is the constant; or is its quantizer."""
        for suspect in blame.suspects[:_BLAMED]:
            layer = suspect.layer.name if suspect.layer else ""
            held = {(suspect.constant or "").replace(".", "_")}
            if suspect.layer and suspect.layer.kind == "quantizer":
                held |= {f"{layer}{end}".replace(".", "_") for end in ("_scale", "_zero_point", "_range")}
            if layer in self.layers or held & self.constants:
                return True
        return False


def changes(
    healthy: Artifact, spoiled: Artifact, images: Sequence[Images], budget: float
) -> tuple[Truth | None, float | None]:
    """Where the two files part, and how far their logits do, over `budget`. None where one can't be run.

    A layer that lost its place is missed by those that read it: they count as well.
    """
    one, other = ({n.replace(".", "_"): v for n, v in read_constants(each)} for each in (healthy, spoiled))
    constants = frozenset(name for name, value in other.items() if not _same(one.get(name), value))
    names: set[str] = set()
    effect = 0.0
    try:
        for image in images:
            with _opened(healthy, image) as (known, before), _opened(spoiled, image) as (layers, after):
                names |= _origins({layer.name: layer for layer in known.layers}, layers.layers, before, after)
                (was,), (now,) = known.outputs, layers.outputs
                error = relative_error(after[now], before[was].astype(np.float64))
                effect = max(effect, float(error[0]) / budget)
    except (VitExportError, KeyError):
        return (Truth(frozenset(), constants) if constants else None), None
    if not names and not constants:
        return None, effect
    return Truth(frozenset(names), constants), effect


def altered(healthy: Program, spoiled: Program) -> Collection[str]:
    """The operations that are not as in the healthy program, by name, and those that read what they give.

    Not as they were: of another kind or type, or reading something else, a constant of another value for one.
    """
    known = {operation.name: operation for operation in healthy.operations}
    before, after = healthy.constants, spoiled.constants
    other = {n for n, c in after.items() if n not in before or not _same_constant(before[n].value, c.value)}
    found: set[str] = set()
    gives: set[str] = set()
    for operation in spoiled.operations:
        if known.get(operation.name) != operation or other.intersection(operation.names()):
            found.add(operation.name)
            gives.update(dict(operation.outputs))
    return found | {each.name for each in spoiled.operations if gives.intersection(each.names())}


def _same_constant(one: Value, other: Value) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and _same(one, other)
    return type(one) is type(other) and one == other


def _origins(known: Mapping[str, Layer], layers: Sequence[Layer], before: Values, after: Values) -> set[str]:
    """Layers that give something else than in the healthy file though they read the same, and what reads them."""
    wrong: set[str] = set()
    first: list[Layer] = []
    for layer in layers:
        given = known[layer.name].gives if layer.name in known else ()
        same = len(given) == len(layer.gives) and all(
            _same(before.get(a), after[b]) for a, b in zip(given, layer.gives, strict=True) if b in after
        )
        if not same:
            if wrong.isdisjoint(layer.reads):
                first.append(layer)
            wrong.update(layer.gives)
    spoiled = {tensor for layer in first for tensor in layer.gives}
    return {layer.name for layer in first} | {layer.name for layer in layers if spoiled.intersection(layer.reads)}


@contextmanager
def _opened(artifact: Artifact, images: Images) -> Iterator[tuple[Layers, Values]]:
    batch = images.repeat(artifact.batch or 1, axis=0)
    with open_layers(artifact, Mode.ORACLE) as opened:
        yield opened, opened.run(batch)


def _same(one: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None", other: object) -> bool:
    value = np.asarray(other)
    return one is not None and one.shape == value.shape and np.array_equal(one, value, equal_nan=one.dtype.kind == "f")


def names_module(blame: Blame, place: str) -> bool | None:
    """Whether the module that the plant says it spoiled is among the first suspects', or is right above or below.

    None of a plant in all of the model, which has no place. Windows that fill their grid lose a level of names in the
    deploy form.
    """
    module = place.split(":", maxsplit=1)[0].strip().replace(".attention", "")
    parts = [suspect.module.replace(".attention", "") for suspect in blame.suspects[:_BLAMED] if suspect.module]
    if not module.startswith(("stem", "stage", "head")):
        return None
    owner = module.removesuffix(".norm").removesuffix(".conv")
    owner = owner.rsplit(".", 1)[0] if owner.rsplit(".", 1)[-1].isdigit() else owner
    levels = owner.count(".") - 2
    return any(part.startswith(owner) or (owner.startswith(part) and part.count(".") >= levels) for part in parts)
