"""Which layers stay in float32: those that bring the most for what they cost, and not one that need not be."""

from dataclasses import dataclass
from typing import Any

import pytest

from export.targets.onnx.float_choice import TRIED_WITHOUT, Choice
from export.targets.onnx.layer_costs import LayerCosts
from export.targets.onnx.sensitivity import Sensitivity

COUNT = 40
ALIKE = [Sensitivity(f"l{number}", 1.0, 0.5 + number / 100) for number in range(COUNT)]


def _costs(**others: int) -> LayerCosts:
    work = {each.layer: 1 for each in ALIKE} | others
    return LayerCosts(work, dict.fromkeys(work, frozenset()))


@dataclass
class _Needs:
    """Enough where all of these layers are in float32; counts how often it was asked."""

    names: frozenset[str]
    asked: int = 0

    def __call__(self, layers: Any) -> bool:
        self.asked += 1
        return self.names <= set(layers)


@dataclass
class _Falls:
    """Enough where the error has fallen far enough, by the sum of what the layers bring."""

    gains: dict[str, float]
    wanted: float

    def __call__(self, layers: Any) -> bool:
        return sum(self.gains[layer] for layer in layers) >= self.wanted - 1e-9


def _found(**gains: float) -> tuple[list[Sensitivity], dict[str, float]]:
    ordered = dict(sorted(gains.items(), key=lambda each: -each[1]))
    return [Sensitivity(layer, 1.0, 1.0 - gain) for layer, gain in ordered.items()], ordered


@pytest.mark.parametrize("needed", [("l0",), ("l3",), ("l0", "l5"), ("l2", "l3", "l9"), ("l39",)])
def test_no_layer_is_left_that_need_not_be(needed: tuple[str, ...]) -> None:
    needs = _Needs(frozenset(needed))
    chosen = Choice(_costs(), ALIKE, needs).cheapest(COUNT)
    assert chosen is not None
    assert set(needed) <= set(chosen)
    assert needs.asked <= 2 * (2 * 6 + TRIED_WITHOUT + 5)
    if needed != ("l39",):  # of more than sixteen, not each is tried again
        assert sorted(chosen) == sorted(needed)


def test_where_no_number_is_enough_there_is_none() -> None:
    needs = _Needs(frozenset({"elsewhere"}))
    assert Choice(_costs(), ALIKE[:20], needs).cheapest(20) is None
    assert needs.asked == 6  # the same prefixes by gain as by rate: none is tried twice


def test_a_cheap_layer_is_left_before_an_expensive_one_that_brings_more() -> None:
    found, gains = _found(stem=0.30, gate=0.20, head=0.05)
    costs = LayerCosts({"stem": 900, "gate": 10, "head": 90}, dict.fromkeys(gains, frozenset()))
    assert Choice(costs, found, _Falls(gains, 0.15)).cheapest(3) == ["gate"]
    assert Choice(costs, found, _Falls(gains, 0.25)).cheapest(3) == ["gate", "head"]
    assert sorted(Choice(costs, found, _Falls(gains, 0.30)).cheapest(3) or []) == ["stem"]


def test_one_that_brings_much_is_taken_where_many_cheap_ones_cost_more_together() -> None:
    gains = {f"l{number}": 0.011 for number in range(20)}
    found, gains = _found(large=0.21, **gains)
    work = dict.fromkeys(gains, 10) | {"large": 195}
    costs = LayerCosts(work, dict.fromkeys(work, frozenset()))
    assert Choice(costs, found, _Falls(gains, 0.21)).cheapest(21) == ["large"]


def test_few_that_are_enough_are_found_although_more_of_them_are_not() -> None:
    """What is measured on few images is noisy: one layer more can make it worse."""
    cheap = {f"l{number}": 0.02 for number in range(8)}
    found, gains = _found(large=0.5, next=0.4, **cheap)
    work = dict.fromkeys(cheap, 1) | {"large": 50, "next": 40}
    costs = LayerCosts(work, dict.fromkeys(work, frozenset()))
    assert Choice(costs, found, lambda layers: set(layers) in ({"large", "next"}, set(gains))).cheapest(10) == [
        "large",
        "next",
    ]


def test_what_is_computed_in_floats_with_a_layer_counts_once() -> None:
    costs = LayerCosts({"a": 1, "b": 3, "c": 4}, {"a": frozenset(), "b": frozenset({"a"}), "c": frozenset({"a", "b"})})
    assert costs.share(["a"]) == 1 / 8
    assert costs.share(["b"]) == 4 / 8
    assert costs.share(["b", "c"]) == 1


def test_what_gains_nothing_or_no_number_comes_last() -> None:
    found = [Sensitivity("good", 1.0, 0.9), Sensitivity("worse", 1.0, 1.1), Sensitivity("none", 1.0, float("nan"))]
    costs = LayerCosts({"good": 5, "worse": 1, "none": 1}, dict.fromkeys(("good", "worse", "none"), frozenset()))
    needs = _Needs(frozenset({"good"}))
    assert Choice(costs, found, needs).cheapest(3) == ["good"]
    assert needs.asked == 1  # the two rates agree, and alone it costs no less
