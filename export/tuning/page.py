"""`tune.html`: a search's record as a page, in one file that needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from export.report.names import name_points
from export.report.svg import QUIET, SERIES, legend, new_figure, svg
from export.report.templates import template

Candidates = Sequence[Mapping[str, Any]]


def render(record: Mapping[str, Any]) -> str:
    """The page of a `TuneRecord` as JSON. Everything in it is escaped."""
    candidates = record["candidates"]
    passed = [each for each in candidates if each["status"] in ("verified", "built")]
    timed = [each for each in passed if each["latency"] is not None]
    return template("tuning/tune.html.j2").render(
        r=record,
        passed=passed,
        untimed=_untimed(passed),
        rejected=[each for each in candidates if each["status"] in ("rejected", "failed", "not_run")],
        left_out=[each for each in candidates if each["status"] == "not_tried"],
        noisy=sum(each["latency"]["noisy"] for each in timed),
        plot=_plot(timed, record["budget_points"]),
    )


def _untimed(passed: Candidates) -> dict[str, str]:
    """Why a target has no latency here, once for all of its candidates."""
    return {each["target"]: each["untimed"] for each in passed if each["untimed"] is not None}


def _plot(timed: Candidates, budget: float) -> str:
    """Lost accuracy over latency; the front is filled."""
    known = [each for each in timed if each["drop_points"] is not None]
    if not known:
        return ""
    figure, axes = new_figure(3.4)
    targets = list(dict.fromkeys(each["target"] for each in known))
    colors = {target: SERIES[place % len(SERIES)] for place, target in enumerate(targets)}
    for place, target in enumerate(targets):
        own, color = [each for each in known if each["target"] == target], colors[target]
        times, drops = ([each["latency"]["median_ms"] for each in own], [each["drop_points"] for each in own])
        faces = [color if each["front"] else "none" for each in own]
        axes.scatter(times, drops, s=44, facecolors=faces, edgecolors=color, marker="os^D"[place % 4], label=target)
    axes.axhline(budget, color=QUIET, linewidth=1, linestyle="--")
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds a batch, median, as measured here")
    axes.set_ylabel("top-1 lost, points")
    legend(axes)
    name_points(
        axes,
        [each["name"].removeprefix(f"{each['target']}-") for each in known],
        [each["latency"]["median_ms"] for each in known],
        [each["drop_points"] for each in known],
        [colors[each["target"]] for each in known],
    )
    return svg(figure, "tuned")
