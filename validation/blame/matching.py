"""Finds each tensor of an artifact among those of the model that it was made from, by value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtimes.reader import Layer, Values
from validation.metrics import Float64

_TINY = 1e-300
_NEAREST = 8


@dataclass(frozen=True, slots=True, eq=False)
class RightTensor:
    """One tensor of the model: `values`, one array a call, in float64; `floor`: what rounding alone moves it by.

    `place`: which of its operator's results it is, and of how many.
    """

    layer: Layer
    values: tuple[Float64, ...]
    floor: float
    place: tuple[int, int] = (0, 1)
    norms: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "norms", tuple(float(np.linalg.norm(value)) for value in self.values))


@dataclass(frozen=True, slots=True, eq=False)
class Right:
    """All tensors of the model, and the module to which each of its constants belongs, by the constant's name."""

    tensors: tuple[RightTensor, ...]
    modules: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where a layer's tensors are in the model: the worst of them. `expected`: what they should have been, if known."""

    module: str
    error: float
    floor: float
    passed: bool
    values: tuple[Float64, ...]
    expected: tuple[Float64, ...] | None


def matched(layers: Sequence[Layer], calls: Sequence[Values], right: Right, factor: float) -> dict[str, Found]:
    """By the layer's name. Layers of integers or truth values are left out: they are of the graph, not of the model."""
    search = _Search(right, factor)
    result: dict[str, Found] = {}
    for layer in layers:
        worst: Found | None = None
        for tensor in layer.gives:
            values = [call[tensor] for call in calls if tensor in call]
            if len(values) != len(calls) or values[0].dtype.kind != "f" or values[0].size == 0:
                continue
            found = search.find(layer, tensor, tuple(value.astype(np.float64) for value in values))
            if worst is None or (worst.passed and not found.passed):
                worst = found
        if worst is not None:
            result[layer.name] = worst
    return result


class _OfOneSize:
    """The model's tensors of one size; their norms alone say how near another can be to each."""

    def __init__(self, tensors: Sequence[RightTensor] = ()) -> None:
        self.tensors = tensors
        self._norms = np.array([tensor.norms for tensor in tensors])
        self._floors = np.array([tensor.floor for tensor in tensors])

    def near(self, values: tuple[Float64, ...], factor: float) -> list[RightTensor]:
        """Those that may be off by at most `factor` times their floor."""
        bounds = self._bounds(values) if self.tensors else self._floors
        return [self.tensors[place] for place in np.flatnonzero(bounds <= factor * self._floors)]

    def nearest(self, values: tuple[Float64, ...], count: int) -> list[RightTensor]:
        return [self.tensors[place] for place in np.argsort(self._bounds(values), kind="stable")[:count]]

    def _bounds(self, values: tuple[Float64, ...]) -> Float64:
        """The least relative error of the worst call: the reverse triangle inequality."""
        norms = np.array([np.linalg.norm(value) for value in values])
        bounds: Float64 = np.max(np.abs(norms - self._norms) / np.maximum(self._norms, _TINY), axis=1)
        return bounds


class _Search:
    def __init__(self, right: Right, factor: float) -> None:
        self._right = right
        self._factor = factor
        self._least_floor = min(tensor.floor for tensor in right.tensors)
        self._paths = {tensor.layer.name for tensor in right.tensors}
        by_size: dict[int, list[RightTensor]] = {}
        for tensor in right.tensors:
            by_size.setdefault(tensor.values[0].size, []).append(tensor)
        self._by_size = {size: _OfOneSize(tensors) for size, tensors in by_size.items()}
        self._inputs = {name for tensor in right.tensors if not tensor.layer.reads for name in tensor.layer.gives}
        self._same: dict[str, frozenset[str]] = {}  # a tensor of the artifact -> the model's that it is
        self._turned: dict[str, int] = {}  # and in which of its forms
        self._module: dict[str, str] = {}

    def find(self, layer: Layer, tensor: str, values: tuple[Float64, ...]) -> Found:
        of_this_size = self._by_size.get(values[0].size, _OfOneSize())
        candidates = of_this_size.tensors
        expected = self._expected(layer, candidates)
        hint = self._hint(layer)
        for turn, form in enumerate(_forms(values)):
            near = of_this_size.near(form, self._factor)
            hits = [(error, right) for right in near if (error := _error(form, right)) <= self._factor * right.floor]
            if hits and (moved := self._moved(layer, tensor, hits)) is not None:
                error = _error(values, moved)
                return self._found(layer, tensor, hint or moved.layer.name, error, moved, values, expected=True)
            if hits:
                self._turned[tensor] = turn
                self._same[tensor] = frozenset(name for _, right in hits for name in right.layer.gives)
                error, own = next((hit for hit in hits if hit[1] in expected), min(hits, key=lambda hit: hit[0]))
                return self._found(layer, tensor, hint or own.layer.name, error, own, values, expected=True)
        meant = expected or [right for right in candidates if hint and right.layer.name == hint]
        if not meant and candidates:
            meant = of_this_size.nearest(values, _NEAREST)
        if not meant:
            self._module[tensor] = hint or self._before(layer)
            return Found(self._module[tensor], float("inf"), self._least_floor, False, values, None)
        error, own = min(((_error(values, right), right) for right in meant), key=lambda pair: pair[0])
        # Turned as the tensors that the layer read, so that like is compared with like when the cause is looked for.
        forms = list(_forms(values))
        turn = next((self._turned[name] for name in layer.reads if name in self._turned), 0)
        form = forms[turn] if turn < len(forms) else values
        module = hint or (own.layer.name if expected else self._before(layer))
        return self._found(layer, tensor, module, error, own, form, expected=bool(expected))

    def _found(
        self,
        layer: Layer,
        tensor: str,
        module: str,
        error: float,
        right: RightTensor,
        values: tuple[Float64, ...],
        *,
        expected: bool,
    ) -> Found:
        self._module[tensor] = module
        passed = error <= self._factor * right.floor
        return Found(module, error, right.floor, passed, values, right.values if expected else None)

    def _moved(self, layer: Layer, tensor: str, hits: list[tuple[float, RightTensor]]) -> RightTensor | None:
        """Of a split whose results are right and changed places: the one that should have been here."""
        place, count = layer.gives.index(tensor), len(layer.gives)
        if count < 2 or any(right.place in ((place, count), (0, 1)) or right.place[1] != count for _, right in hits):
            return None
        reads = {right.layer.reads for _, right in hits}
        siblings = (right for right in self._right.tensors if right.layer.reads in reads)
        return next((right for right in siblings if right.place == (place, count)), None)

    def _hint(self, layer: Layer) -> str:
        """The module as the file itself says: by the constants that the layer holds, or by its name."""
        held = next((self._right.modules[name] for name in layer.holds if name in self._right.modules), "")
        scope = layer.name.rsplit("/", 1)[0]
        return held or (scope if scope in self._paths else "")

    def _before(self, layer: Layer) -> str:
        """The module that made what the layer read: where the file says nothing, it goes on there."""
        return next((self._module[name] for name in reversed(layer.reads) if name in self._module), "")

    def _expected(self, layer: Layer, candidates: Sequence[RightTensor]) -> list[RightTensor]:
        """The model's tensors of this size that are made of exactly what this layer read, or at least of some of it."""
        read = [self._same.get(name, self._inputs) for name in layer.reads]
        if any(name not in self._same for name in layer.reads[1:]):
            read = [self._same[name] for name in layer.reads if name in self._same]
        every = frozenset[str]().union(*read) if read else frozenset(self._inputs)
        exact = [
            right
            for right in candidates
            if right.layer.reads
            and every.issuperset(right.layer.reads)
            and all(not given.isdisjoint(right.layer.reads) for given in read)
        ]
        return exact or [right for right in candidates if not every.isdisjoint(right.layer.reads)]


def _forms(values: tuple[Float64, ...]) -> Iterator[tuple[Float64, ...]]:
    """As it lies, and as a converter may have turned it: two axes exchanged, channels last, channels first."""
    rank = values[0].ndim
    yield values
    if rank >= 3:
        yield tuple(np.swapaxes(value, -1, -2) for value in values)
    if rank == 4:
        yield tuple(np.moveaxis(value, 1, 3) for value in values)
        yield tuple(np.moveaxis(value, 3, 1) for value in values)


def _error(values: tuple[Float64, ...], right: RightTensor) -> float:
    """The worst call's relative error; infinite for what is not finite."""
    worst = 0.0
    for value, meant, norm in zip(values, right.values, right.norms, strict=True):
        difference: NDArray[np.float64] = value.reshape(-1) - meant.reshape(-1)
        error = float(np.linalg.norm(difference)) / max(norm, _TINY)
        if not error < float("inf"):
            return float("inf")
        worst = max(worst, error)
    return worst
