"""Plots as SVG that takes its colors from the page around it: light, dark and printed."""

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Written into the SVG in the place of colors, and replaced by what the page's style says.
INK, GOOD, BAD, QUIET = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707")
"""Told apart by people who see few colors too; marks of different shape go with them."""

_STYLE = {INK: "currentColor", GOOD: "var(--good)", BAD: "var(--bad)", QUIET: "var(--quiet)"} | {
    placeholder: f"var(--series{number})" for number, placeholder in enumerate(SERIES, 1)
}
WIDTH = 7.2  # inches, at 72 units an inch; the page scales it


def new_figure(height: float) -> "tuple[Figure, Axes]":
    """A figure of the page's width, `height` in inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    styled(axes)
    return figure, axes


def new_panels(rows: int, columns: int, height: float, *, shared: bool = False) -> "tuple[Figure, list[Axes]]":
    """The same with a grid of axes, row by row, each with its own limits unless they are `shared`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flat)
    for axes in panels:
        styled(axes)
    return figure, panels


def styled(axes: "Axes") -> None:
    """In the page's ink, without a box."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9, which="both")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def logarithmic(axes: "Axes", which: str) -> None:
    """Make the axis `which`, x or y, logarithmic."""
    from export.report.powers import PlainPowers

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(PlainPowers())
    axis.set_minor_formatter(PlainPowers(labelOnlyBase=False))


def legend(axes: "Axes") -> None:
    """Above the axes, in one line."""
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=8, frameon=False, borderpad=0)
    for text in legend.get_texts():
        text.set_color(INK)


def svg(figure: "Figure", name: str) -> str:
    """Inline SVG: text stays text, the same bytes for the same figures, ids that no other plot of the page has."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = re.sub(
        r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', text
    )
    for placeholder, style in _STYLE.items():
        text = text.replace(placeholder, style)
    return text
