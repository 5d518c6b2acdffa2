"""Which layers to leave in float32: those that bring the most for what they cost, as few as it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from export.targets.onnx.layer_costs import LayerCosts
from export.targets.onnx.sensitivity import Sensitivity

TRIED_WITHOUT = 16
"""So many chosen layers each are tried once more in int8, the most expensive first."""

Enough = Callable[[Sequence[str]], bool]


@dataclass(slots=True)
class Choice:
    """Among layers of which is known what they cost and what was `found` to be gained, the most first.

    `enough`: whether the file is within its budget with these layers in float32; each set is asked once.
    """

    costs: LayerCosts
    found: Sequence[Sensitivity]
    enough: Enough
    _known: dict[frozenset[str], bool] = field(default_factory=dict)

    def cheapest(self, most: int) -> list[str] | None:
        """At most `most` layers that are enough, by what they gain and cost; None where no such number is.

        Three orders are tried, and what costs least is taken: by gain for each multiply-add; by its square, since eight
        images can't tell the tiny gains of cheap layers; and by gain alone, as far as it costs less than what the
        others found. None is known to be the best there is: that would take a file for every set of layers.
        """
        found = [self._fewest(self._by_rate(power)[:most]) for power in (1, 2)]
        chosen = min(filter(None, found), key=lambda layers: (self._cost(layers), len(layers)), default=None)
        largest = [each.layer for each in self.found][:most]
        if chosen is None:
            return self._fewest(largest)
        room = [largest[:size] for size in range(1, len(largest)) if self._cost(largest[:size]) < self._cost(chosen)]
        cheaper = self._fewest(room[-1]) if room else None
        return chosen if cheaper is None else cheaper

    def _by_rate(self, power: int) -> list[str]:
        """What gains nothing comes last, in the order in which it is."""

        def rate(each: Sensitivity) -> float:
            return each.gain**power / self._cost([each.layer]) if each.gain > 0 else 0.0

        return [each.layer for each in sorted(self.found, key=rate, reverse=True)]

    @property
    def _gains(self) -> dict[str, float]:
        return {each.layer: each.gain for each in self.found}

    def _cost(self, layers: Sequence[str]) -> float:
        return self.costs.share(layers)

    def _is_enough(self, layers: Sequence[str]) -> bool:
        key = frozenset(layers)
        if key not in self._known:
            self._known[key] = self.enough(layers)
        return self._known[key]

    def _fewest(self, ranked: Sequence[str]) -> list[str] | None:
        """A prefix that is enough where one layer less is not, without those that turn out not to be needed."""
        short, size = 0, 1
        while not self._is_enough(ranked[:size]):
            if size >= len(ranked):
                return None
            short, size = size, min(2 * size, len(ranked))
        while size - short > 1:
            middle = (short + size) // 2
            short, size = (short, middle) if self._is_enough(ranked[:middle]) else (middle, size)
        chosen = list(ranked[:size])
        for name in sorted(chosen, key=lambda name: -self._cost([name]))[:TRIED_WITHOUT]:
            fewer = [each for each in chosen if each != name]
            if fewer and self._is_enough(fewer):
                chosen = fewer
        return self._halved(chosen)

    def _halved(self, chosen: list[str]) -> list[str]:
        """Without the half that gains the least, as often as the rest is enough."""
        while len(chosen) > 1:
            half = sorted(chosen, key=self._gains.__getitem__, reverse=True)[: len(chosen) // 2]
            if not self._is_enough(half):
                break
            chosen = half
        return chosen
