"""The page of `vit-export history`: one file that needs no network."""

from collections.abc import Callable, Sequence

from export.bundle.history import History, Point
from export.report.svg import BAD, INK, QUIET, SERIES, new_panels, svg
from export.report.templates import template

_Value = Callable[[Point], float | None]
_FIGURES: tuple[tuple[str, str, _Value], ...] = (
    ("size", "MB", lambda point: point.bytes / 1e6),
    ("error", "error / budget", lambda point: None if point.error is None else point.error.share),
    ("accuracy", "top-1, %", lambda point: None if point.top1 is None else 100 * point.top1[0]),
    ("latency", "ms a batch", lambda point: None if point.latency is None else point.latency.median_ms),
)
_HEIGHT = 2.1


def render(history: History) -> str:
    """The page; everything in it is escaped."""
    return template("bundle/history.html.j2").render(
        h=history,
        plots={
            name: _plot(f"history{number}", points, {(each.figure, each.new) for each in history.alarms_of(name)})
            for number, (name, points) in enumerate(history.artifacts.items())
            if len(points) > 1
        },
    )


def _plot(name: str, points: Sequence[Point], worse: set[tuple[str, str]]) -> str:
    """A panel for each figure that was measured more than once; what got worse is a cross."""
    shown = [each for each in _FIGURES if sum(each[2](point) is not None for point in points) > 1]
    figure, panels = new_panels(1, len(shown), _HEIGHT)
    for axes, (kind, unit, value) in zip(panels, shown, strict=True):
        found = [(place, point, each) for place, point in enumerate(points) if (each := value(point)) is not None]
        axes.plot([place for place, _, _ in found], [each for _, _, each in found], color=QUIET, linewidth=1)
        for place, point, each in found:
            bad = (kind, point.release) in worse
            axes.plot([place], [each], "x" if bad else "o", color=BAD if bad else SERIES[0], markersize=6 if bad else 4)
            if kind == "latency" and point.latency is not None:
                axes.vlines(place, point.latency.low_ms, point.latency.high_ms, color=INK, linewidth=1)
        axes.set_ylim(0, 1.15 * max(each for _, _, each in found) or 1)
        axes.set_xticks(range(len(points)), [point.release for point in points], rotation=45, ha="right")
        axes.set_xlim(-0.5, len(points) - 0.5)
        axes.set_ylabel(unit)
    return svg(figure, name)
