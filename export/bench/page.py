"""`bench.html`: a benchmark's record as a page, in one file that needs no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientvit.size import ImageSize
from efficientvit.spec import MODELS
from export.bench import plots
from export.bench.baselines import STOCK
from export.bench.claims import papers_size
from export.bench.plots import Rows
from export.report.templates import template


@dataclass(frozen=True, slots=True)
class _Group:
    """The rows of one model at one batch, fastest first."""

    model: str
    batch: int
    rows: Rows


def render(record: Mapping[str, Any]) -> str:
    """The page of what `bench_record` makes. Everything in it is escaped."""
    rows = record["rows"]
    threads = min((row["threads"] for row in rows), default=1)
    plotted = [row for row in rows if row["threads"] == threads]
    published = [row for row in plotted if ImageSize.from_json(row["image_size"]) == papers_size(row["model"])]
    untrained = set(record["untrained"])
    return template("bench/bench.html.j2").render(
        r=record,
        groups=_groups(rows),
        name=plots.short_name,
        side=_side,
        top1=plots.top1,
        threads=threads,
        several_streams=[(row, each) for row in rows for each in row["throughput"]],
        several_threads=len({row["threads"] for row in rows}) > 1,
        untrained=[plots.short_name(model) for model in record["untrained"]],
        untrained_int8=any(row["precision"] == "int8" and row["model"] in untrained for row in rows),
        unpublished=[
            plots.short_name(model)
            for model in dict.fromkeys(row["model"] for row in rows)
            if plots.top1(model) is None
        ],
        noisy=sum(row["noisy"] for row in rows),
        stock=any(row["precision"] == STOCK for row in rows),
        batches=sorted({row["batch"] for row in plotted}),
        papers_batch=plots.PAPERS_BATCH,
        paper=[(name, MODELS[name].paper) for name in MODELS if any(row["model"] == name for row in published)],
        accuracy=plots.accuracy(published),
        throughput=plots.throughput(published),
        relative=plots.relative(plotted),
    )


def _groups(rows: Rows) -> list[_Group]:
    keys = dict.fromkeys((row["model"], row["batch"]) for row in rows)
    return [
        _Group(
            model,
            batch,
            sorted(
                (row for row in rows if (row["model"], row["batch"]) == (model, batch)),
                key=lambda row: (row["threads"], row["median_ms"]),
            ),
        )
        for model, batch in keys
    ]


def _side(text: str) -> str:
    """`m5 stock`, with the model as the paper calls it."""
    model, _, form = text.partition(" ")
    return f"{plots.short_name(model)} {form}"
