"""The report's plots, as SVG that takes its colours from the page around it: light, dark and printed."""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Written into the SVG in the place of colours, and replaced by what the page's style says.
_INK, _GOOD, _BAD, _QUIET = "#010101", "#020202", "#030303", "#040404"
_STYLE = {_INK: "currentColor", _GOOD: "var(--good)", _BAD: "var(--bad)", _QUIET: "var(--quiet)"}
_WIDTH = 7.2  # inches, at 72 units an inch; the page scales it


def chain(names: Sequence[str], errors: Sequence[float], budgets: Sequence[float]) -> str:
    """Each stage's error, a dot, and its budget, a bar, on one logarithmic axis."""
    figure, axes = _figure(0.5 + 0.34 * len(names))
    places = np.arange(len(names))[::-1]
    lowest = min([error for error in errors if error > 0] + list(budgets)) / 3
    axes.hlines(places, lowest, budgets, color=_QUIET, linewidth=5, alpha=0.5)
    for place, error, budget in zip(places, errors, budgets, strict=True):
        colour = _GOOD if error <= budget else _BAD
        axes.plot([max(error, lowest)], [place], "o", color=colour, markersize=7)
        axes.plot([budget], [place], "|", color=_INK, markersize=11, markeredgewidth=1.6)
    axes.set_xscale("log")
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("worst relative error (dot) and its budget (stroke)")
    return _svg(figure, "chain")


def layers(errors: Sequence[float], floors: Sequence[float], passed: Sequence[bool]) -> str:
    """Every layer's error against what PyTorch itself deviates there, in the file's order."""
    figure, axes = _figure(2.5)
    x = np.arange(len(errors))
    shown = np.clip(np.nan_to_num(np.array(errors), nan=np.inf), 1e-12, 1e3)
    good = np.array(passed, bool)
    axes.plot(x, np.maximum(floors, 1e-12), color=_QUIET, linewidth=1.2, label="floor")
    axes.plot(x[good], shown[good], ".", color=_GOOD, markersize=3, label="within its budget")
    if (~good).any():
        axes.plot(x[~good], shown[~good], "x", color=_BAD, markersize=5, label="beyond it")
    axes.set_yscale("log")
    axes.set_xlabel("layers, in the file's order")
    axes.set_ylabel("relative error")
    _legend(axes)
    return _svg(figure, "layers")


def margins(ratios: Sequence[float], flipped: Sequence[bool]) -> str:
    """How much larger each image's margin is than what the budget can explain; below 1 a flip means nothing."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(1.7)
    x = np.arange(len(ratios))
    wrong = np.array(flipped, bool)
    shown = np.clip(np.array(ratios, float), 1e-3, None)
    axes.axhline(1, color=_INK, linewidth=1)
    axes.vlines(x, np.minimum(shown, 1), np.maximum(shown, 1), color=_QUIET, linewidth=1)
    axes.plot(x[~wrong], shown[~wrong], "o", color=_GOOD, markersize=4, label="same winner")
    if wrong.any():
        axes.plot(x[wrong], shown[wrong], "x", color=_BAD, markersize=6, label="another winner")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("golden images")
    axes.set_ylabel("margin / budget")
    _legend(axes)
    return _svg(figure, "margins")


def latency(milliseconds: Sequence[float]) -> str:
    """How long single runs took; what is slower than the 99.5th percentile is left out of the picture."""
    figure, axes = _figure(1.8)
    samples = np.array(milliseconds)
    top = float(np.percentile(samples, 99.5))
    axes.hist(samples[samples <= top], bins=48, color=_QUIET)
    for percent, style in ((50, "-"), (90, "--"), (99, ":")):
        value = float(np.percentile(samples, percent))
        axes.axvline(value, color=_INK, linestyle=style, linewidth=1.4, label=f"p{percent}")
    axes.set_xlabel("milliseconds a batch")
    axes.set_ylabel("runs")
    _legend(axes)
    return _svg(figure, "latency")


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=9, which="both")
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _legend(axes: "Axes") -> None:
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=8, frameon=False, borderpad=0)
    for text in legend.get_texts():
        text.set_color(_INK)


def _svg(figure: "Figure", name: str) -> str:
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
