"""Which layer of a rejected artifact is at fault, and the cause where the values show it.

A layer is at fault if it gives what the model has nowhere (validation/blame/matching.py) although it read what the
model has, and if from there to an output nothing is right again. Constants that are not the model's come before
the layers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtimes.precision import Dtype
from runtimes.reader import Layer, Layers
from validation.blame.causes import cause_of_values
from validation.blame.matching import Found, Right

SHOWN = 8
"""Suspects at most."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """One layer against the model: relative error of its worst tensor, and what an honest layer may have.

    `module`: the path of the model's module that it stands for, '' where that is unknown. `low`, `high`: its range.
    """

    name: str
    kind: str
    module: str
    error: float
    floor: float
    passed: bool
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """A layer, or a constant, that is likely at fault. `layer` is None of a constant that no layer was seen to read."""

    module: str
    constant: str | None
    layer: LayerError | None
    cause: str | None

    def __str__(self) -> str:
        at = self.layer
        what = f"constant '{self.constant}'" if self.constant else f"{at.kind} '{at.name}'" if at else ""
        error = f", off by {at.error:.1e}, floor {at.floor:.1e}" if at else ""
        where = f"{self.module}: " if self.module else ""
        return f"{where}{what}{error}{f': {self.cause}' if self.cause else ''}"


@dataclass(frozen=True, slots=True)
class Blame:
    """The suspects, most likely first, and every layer that could be compared. `note`: why there are none."""

    suspects: tuple[Suspect, ...]
    layers: tuple[LayerError, ...] = ()
    note: str | None = None


def rank(opened: Layers, found: Mapping[str, Found], wrong: Mapping[str, str], right: Right, dtype: Dtype) -> Blame:
    """From what was `found` of each layer, and from the `wrong` constants with what is wrong with them."""
    errors = {layer.name: _error(layer, found[layer.name]) for layer in opened.layers if layer.name in found}
    suspects = [
        *_constants(opened, found, wrong, right, dtype),
        *_layers(opened, found, dtype),
    ]
    # What a constant spoils is not named a second time.
    named = {suspect.layer.name for suspect in suspects if suspect.constant and suspect.layer}
    kept = [suspect for suspect in suspects if suspect.constant or not suspect.layer or suspect.layer.name not in named]
    note = None if kept else "every layer that could be compared is within its budget"
    return Blame(tuple(kept[:SHOWN]), tuple(errors.values()), note)


def _constants(
    opened: Layers, found: Mapping[str, Found], wrong: Mapping[str, str], right: Right, dtype: Dtype
) -> Iterator[Suspect]:
    """Each wrong constant with the layer that reads it."""
    readers = {held.replace(".", "_"): layer for layer in reversed(opened.layers) for held in layer.holds}
    for name, cause in wrong.items():
        reader = readers.get(name.replace(".", "_"))
        at = found.get(reader.name) if reader else None
        error = _error(reader, at) if reader and at else None
        module, said = right.modules.get(name, ""), cause
        if at is not None and not module:  # unknown by name: say what it does
            module = at.module
            does = None if at.passed else cause_of_values(at.values, at.expected, dtype)
            said = f"{cause}; what it makes is {does}" if does else cause
        yield Suspect(module, name, error, said)


def _layers(opened: Layers, found: Mapping[str, Found], dtype: Dtype) -> Iterator[Suspect]:
    """Where the way to the outputs leaves what is right, and then what lies behind that, in the file's order."""
    makers = {tensor: layer for layer in opened.layers for tensor in layer.gives}
    wrong: dict[str, bool] = {}
    for layer in opened.layers:  # one that could not be compared is as right as what it reads
        at = found.get(layer.name)
        reads = any(wrong.get(makers[tensor].name, False) for tensor in layer.reads if tensor in makers)
        wrong[layer.name] = reads if at is None else not at.passed
    path = _path(opened, makers, wrong)
    first = [x for x in path if not any(wrong.get(makers[tensor].name) for tensor in x.reads if tensor in makers)]
    for layer in (*first, *(layer for layer in path if layer not in first)):
        at = found.get(layer.name)
        if at is not None:
            cause = cause_of_values(at.values, at.expected, dtype) if layer in first else None
            yield Suspect(at.module, None, _error(layer, at), cause)


def _path(opened: Layers, makers: Mapping[str, Layer], wrong: Mapping[str, bool]) -> list[Layer]:
    """The layers from which an output is reached without passing a right tensor, in the file's order."""
    seen: set[str] = set()
    ahead = list(opened.outputs)
    while ahead:
        layer = makers.get(ahead.pop())
        if layer is not None and layer.name not in seen and wrong[layer.name]:
            seen.add(layer.name)
            ahead.extend(layer.reads)
    return [layer for layer in opened.layers if layer.name in seen]


def _error(layer: Layer, at: Found) -> LayerError:
    low, high = min(float(v.min()) for v in at.values), max(float(v.max()) for v in at.values)
    return LayerError(layer.name, layer.kind, at.module, at.error, at.floor, at.passed, low, high)
