"""Which candidates are worth having, against a search of all of them."""

import hypothesis
from hypothesis import strategies as st

from export.tuning.choice import Point, best, fastest, front

TARGETS = ("onnx", "openvino", "coreml")


@st.composite
def searches(draw: st.DrawFn) -> list[Point]:
    """Candidates of three targets, of which Core ML is not timed; few different figures, so that many are equal."""
    points = []
    for number in range(draw(st.integers(0, 9))):
        target = draw(st.sampled_from(TARGETS))
        drop = draw(st.sampled_from((None, -1.0, 0.0, 0.5, 1.0)))
        size, time = draw(st.integers(1, 4)), draw(st.sampled_from((0.5, 1.0, 2.0, 3.0)))
        within = drop is not None and drop <= 0.5
        points.append(Point(f"{target}-{number}", target, size, drop, within, None if target == "coreml" else time))
    return points


@hypothesis.given(searches())
def test_the_choice_is_the_fastest_of_an_exhaustive_list(points: list[Point]) -> None:
    chosen = fastest(points)
    possible = {each.name: each.median_ms for each in points if each.within and each.median_ms is not None}
    if chosen is None:
        assert not possible
    else:
        assert possible[chosen] == min(possible.values())
        assert chosen in best(points).values()


@hypothesis.given(searches())
def test_whatever_is_not_on_the_front_is_beaten_by_something_that_is(points: list[Point]) -> None:
    names = front(points)
    worst = float("inf")

    def costs(each: Point) -> tuple[float, ...]:
        return (each.median_ms or 0, each.size_bytes, worst if each.drop is None else each.drop)

    for each in points:
        timed = each.median_ms is not None
        rivals = [o for o in points if (o.median_ms is not None) == timed and (timed or o.target == each.target)]
        beats = [
            o.name
            for o in rivals
            if costs(o) != costs(each) and all(a <= b for a, b in zip(costs(o), costs(each), strict=True))
        ]
        assert (each.name in names) == (not beats)
        if beats:
            assert names & set(beats)


@hypothesis.given(searches())
def test_the_best_of_a_target_is_within_the_budget(points: list[Point]) -> None:
    found = best(points)
    for target in TARGETS:
        own = [each for each in points if each.target == target and each.within]
        assert (target in found) == bool(own)
        if own:
            (one,) = (each for each in own if each.name == found[target])
            assert (one.median_ms or 0) == min(each.median_ms or 0 for each in own)
            if target == "coreml":
                assert one.size_bytes == min(each.size_bytes for each in own)


def test_no_latency_is_guessed_for_what_was_not_timed() -> None:
    """A small Core ML package neither beats an ONNX file nor is it the fastest."""
    points = [Point("onnx", "onnx", 9, 0.0, True, 5.0), Point("coreml", "coreml", 1, 0.0, True)]
    assert fastest(points) == "onnx"
    assert front(points) == {"onnx", "coreml"}
    assert fastest(points[1:]) is None


def test_what_is_fast_and_over_the_budget_is_on_the_front_and_not_chosen() -> None:
    points = [Point("fp32", "onnx", 9, 0.0, True, 5.0), Point("int8", "onnx", 3, 2.0, False, 2.0)]
    assert fastest(points) == "fp32"
    assert front(points) == {"fp32", "int8"}
