"""The plots of a benchmark's page, from the rows of its record."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from efficientvit.spec import MODELS
from export.bench.baselines import STOCK
from export.bench.claims import BASELINE_TOP1
from export.bench.peers import RIVALS
from export.bench.pytorch import TARGET as PYTORCH
from export.report.svg import INK, QUIET, SERIES, new_figure, new_panels, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

_COLORS = {"onnx": SERIES[0], "openvino": SERIES[1], PYTORCH: SERIES[2]}
_MARKS = {STOCK: "X", "fp32": "o", "fp16": "s", "bf16": "D", "int8": "^", "eager": "P", "compiled": "v"}
_PEERS_MARK = "*"
_DASHES = {STOCK: ":", "fp16": "--", "int8": "-."}
_TARGETS = {"onnx": "ONNX", "openvino": "OpenVINO", PYTORCH: "PyTorch"}

PAPERS_BATCH = 16
_NAME_HEIGHT = 0.75  # of a model's name, in points of accuracy


def accuracy(rows: Rows) -> str:
    """Published top-1 over measured latency: a panel for each batch, a line for each runtime and precision."""
    known = [row for row in rows if top1(row["model"]) is not None]
    batches = sorted({row["batch"] for row in known})
    if not batches:
        return ""
    figure, panels = new_panels(len(batches), 1, 0.9 + 3.6 * len(batches))
    for axes, batch in zip(panels, batches, strict=True):
        own = [row for row in known if row["batch"] == batch]
        for target, precision in series(own):
            _line(axes, [row for row in own if (row["target"], row["precision"]) == (target, precision)])
        _name_heights(axes, dict(zip((row["model"] for row in own), _heights(own), strict=True)))
        _plain_log(axes, "x")
        axes.set_title(f"batch {batch}", fontsize=10, loc="left", color=INK)
        axes.set_xlabel("milliseconds a batch, as measured here")
        axes.set_ylabel("top-1, %, as published")
    _legend_below(figure, panels)
    return svg(figure, "accuracy")


def _name_heights(axes: "Axes", heights: Mapping[str, float]) -> None:
    """A faint line for each model, and its name at the end, moved up where two would lie on each other."""
    lowest = -1.0
    for model, height in sorted(heights.items(), key=lambda pair: pair[1]):
        lowest = max(height, lowest + _NAME_HEIGHT)
        axes.axhline(height, color=QUIET, linewidth=0.6, alpha=0.35, zorder=0)
        axes.text(1.01, lowest, short_name(model), transform=axes.get_yaxis_transform(), va="center", fontsize=8,
                  color=INK)  # fmt: skip


def _line(axes: "Axes", rows: Rows) -> None:
    target, precision = rows[0]["target"], rows[0]["precision"]
    style: dict[str, Any] = {
        "color": _COLORS[target],
        "marker": _MARKS.get(precision, _PEERS_MARK),
        "markersize": 6,
        "linewidth": 1.1,
    }
    family = sorted((row for row in rows if row["model"] in MODELS), key=lambda row: str(row["model"]))
    others = [row for row in rows if row["model"] not in MODELS]
    style["label"], dashes = series_name(target, precision), _DASHES.get(precision, "-")
    axes.plot([row["median_ms"] for row in family], _heights(family), linestyle=dashes, **style)
    style |= {"label": "_", "markerfacecolor": "none"}  # one entry in the legend
    axes.plot([row["median_ms"] for row in others], _heights(others), linestyle="none", **style)


def _heights(rows: Rows) -> list[float]:
    return [known for row in rows if (known := top1(row["model"])) is not None]


def throughput(rows: Rows) -> str:
    """M0 to M5: the paper's images/s on its host beside ours, at the paper's batch where it was timed."""
    own = [row for row in rows if row["model"] in MODELS]
    if not own:
        return ""
    batch = papers_batch(own)
    own = [row for row in own if row["batch"] == batch]
    models = [name for name in MODELS if any(row["model"] == name for row in own)]
    figure, axes = new_figure(3.6)
    places = range(len(models))
    paper = [MODELS[name].paper for name in models]
    hollow: dict[str, Any] = {"color": INK, "markerfacecolor": "none", "linewidth": 1.0, "markersize": 7}
    axes.plot(places, [each.cpu_images_per_s for each in paper], "P--", label="the paper, PyTorch", **hollow)
    axes.plot(places, [each.onnx_images_per_s for each in paper], "X:", label="the paper, ONNX", **hollow)
    for target, precision in ((PYTORCH, "eager"), ("onnx", STOCK)):
        found = {row["model"]: row["images_per_s"] for row in own if (row["target"], row["precision"])
                 == (target, precision)}  # fmt: skip
        at = [place for place in places if models[place] in found]
        if at:
            axes.plot(at, [found[models[place]] for place in at], color=_COLORS[target], marker=_MARKS[precision],
                      linewidth=1.2, label=f"here, {series_name(target, precision)}")  # fmt: skip
    best = [max(row["images_per_s"] for row in own if row["model"] == name) for name in models]
    axes.plot(places, best, color=INK, marker="*", markersize=9, linewidth=1.2, label="here, fastest that passed")
    axes.set_xticks(list(places), [short_name(name) for name in models])
    _plain_log(axes, "y")
    axes.set_ylabel(f"images/s, batch {batch}")
    _legend_below(figure, [axes])
    return svg(figure, "throughput")


def relative(rows: Rows) -> str:
    """How many times as fast as its baseline each form of each model is: a panel a model, a bar a batch."""
    shown = [row for row in rows if row["speedup"] is not None and row["precision"] != STOCK]
    models = list(dict.fromkeys(row["model"] for row in shown))
    if not models:
        return ""
    forms, batches = series(shown)[::-1], sorted({row["batch"] for row in shown})
    columns = 2 if len(models) > 1 else 1
    lines = -(-len(models) // columns)
    each = 0.55 + 0.14 * len(forms) * max(len(batches), 1.3)
    figure, panels = new_panels(lines, columns, 0.8 + each * lines, shared=True)
    thick = 0.8 / len(batches)
    for axes, model in zip(panels, models, strict=False):
        for number, batch in enumerate(batches):
            bars = [
                (place + (len(batches) - 1 - 2 * number) * thick / 2, row["speedup"], _COLORS[form[0]])
                for place, form in enumerate(forms)
                for row in shown
                if (row["model"], row["batch"], (row["target"], row["precision"])) == (model, batch, form)
            ]
            solid = number == len(batches) - 1
            axes.barh([bar[0] for bar in bars], [bar[1] for bar in bars], 0.86 * thick, edgecolor=[b[2] for b in bars],
                      color=[bar[2] for bar in bars] if solid else "none", linewidth=0.9)  # fmt: skip
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_title(short_name(model), fontsize=10, loc="left", color=INK)
        axes.set_yticks(range(len(forms)), [series_name(*form) for form in forms])
        axes.tick_params(labelbottom=True)
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(models) - columns) : len(models)]:
        axes.set_xlabel("times as fast")
    return svg(figure, "relative")


def top1(model: str) -> float | None:
    """ImageNet top-1 in %, as published; None where it could not be verified."""
    return MODELS[model].paper.top1 if model in MODELS else BASELINE_TOP1.get(model)


def papers_batch(rows: Rows) -> int:
    """The batch that the paper's CPU figures are for, or the largest there is."""
    batches = {int(row["batch"]) for row in rows}
    return PAPERS_BATCH if PAPERS_BATCH in batches else max(batches)


def series(rows: Rows) -> list[tuple[str, str]]:
    """Every (target, precision) there is, runtimes together, stock first, what other tools made last."""
    found = {(row["target"], row["precision"]) for row in rows}
    places = {name: place for place, name in enumerate((*_MARKS, *RIVALS))}
    return sorted(found, key=lambda pair: (list(_TARGETS).index(pair[0]), places[pair[1]]))


def series_name(target: str, precision: str) -> str:
    """As a legend has it."""
    return f"{_TARGETS[target]} {precision}"


_NAMES = {
    "mobilenetv2_100": "MobileNetV2",
    "mobilenetv3_large_100": "MobileNetV3-L",
    "efficientnet_b0": "EfficientNet-B0",
    "mobilevit_xxs": "MobileViT-XXS",
}


def short_name(model: str) -> str:
    """As the paper calls it."""
    return _NAMES.get(model, model.upper())


def _plain_log(axes: "Axes", which: str) -> None:
    """Logarithmic, with 1, 2, 5, 10 in the place of powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend_below(figure: "Figure", panels: "Iterable[Axes]") -> None:
    """One for all panels: each series once."""
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    found = figure.legend(
        entries.values(), entries.keys(), loc="outside lower left", ncols=4, fontsize=8, frameon=False
    )
    for text in found.get_texts():
        text.set_color(INK)
