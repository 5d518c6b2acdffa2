"""The report's plots."""

from collections.abc import Sequence

import numpy as np

from export.report.svg import BAD, GOOD, INK, QUIET, legend, logarithmic, new_figure, svg


def chain(names: Sequence[str], errors: Sequence[float], budgets: Sequence[float]) -> str:
    """Each stage's error, a dot, and its budget, a bar, on one logarithmic axis."""
    figure, axes = new_figure(0.5 + 0.34 * len(names))
    places = np.arange(len(names))[::-1]
    lowest = min([error for error in errors if error > 0] + list(budgets)) / 3
    axes.hlines(places, lowest, budgets, color=QUIET, linewidth=5, alpha=0.5)
    for place, error, budget in zip(places, errors, budgets, strict=True):
        color = GOOD if error <= budget else BAD
        axes.plot([max(error, lowest)], [place], "o", color=color, markersize=7)
        axes.plot([budget], [place], "|", color=INK, markersize=11, markeredgewidth=1.6)
    logarithmic(axes, "x")
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("worst relative error (dot) and its budget (stroke)")
    return svg(figure, "chain")


def layers(errors: Sequence[float], floors: Sequence[float], passed: Sequence[bool]) -> str:
    """Every layer's error against what PyTorch itself deviates there, in the file's order."""
    figure, axes = new_figure(2.5)
    x = np.arange(len(errors))
    shown = np.clip(np.nan_to_num(np.array(errors), nan=np.inf), 1e-12, 1e3)
    good = np.array(passed, bool)
    axes.plot(x, np.maximum(floors, 1e-12), color=QUIET, linewidth=1.2, label="floor")
    axes.plot(x[good], shown[good], ".", color=GOOD, markersize=3, label="within its budget")
    if (~good).any():
        axes.plot(x[~good], shown[~good], "x", color=BAD, markersize=5, label="beyond it")
    logarithmic(axes, "y")
    axes.set_xlabel("layers, in the file's order")
    axes.set_ylabel("relative error")
    legend(axes)
    return svg(figure, "layers")


def margins(ratios: Sequence[float], flipped: Sequence[bool]) -> str:
    """How much larger each image's margin is than what the budget can explain; below 1 a flip means nothing."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(1.7)
    x = np.arange(len(ratios))
    wrong = np.array(flipped, bool)
    shown = np.clip(np.array(ratios, float), 1e-3, None)
    axes.axhline(1, color=INK, linewidth=1)
    axes.vlines(x, np.minimum(shown, 1), np.maximum(shown, 1), color=QUIET, linewidth=1)
    axes.plot(x[~wrong], shown[~wrong], "o", color=GOOD, markersize=4, label="same winner")
    if wrong.any():
        axes.plot(x[wrong], shown[wrong], "x", color=BAD, markersize=6, label="another winner")
    logarithmic(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("golden images")
    axes.set_ylabel("margin / budget")
    legend(axes)
    return svg(figure, "margins")


def latency(milliseconds: Sequence[float]) -> str:
    """How long single runs took; what is slower than the 99.5th percentile is left out of the picture."""
    figure, axes = new_figure(1.8)
    samples = np.array(milliseconds)
    top = float(np.percentile(samples, 99.5))
    axes.hist(samples[samples <= top], bins=48, color=QUIET)
    for percent, style in ((50, "-"), (90, "--"), (99, ":")):
        value = float(np.percentile(samples, percent))
        axes.axvline(value, color=INK, linestyle=style, linewidth=1.4, label=f"p{percent}")
    axes.set_xlabel("milliseconds a batch")
    axes.set_ylabel("runs")
    legend(axes)
    return svg(figure, "latency")
