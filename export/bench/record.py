"""A benchmark as JSON, CSV and Markdown."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from efficientvit.spec import MODELS, PUBLISHED_SIZE
from export.bench.baselines import STOCK
from export.bench.claims import Compared, compared, unmeasured
from export.bench.measured import Measured, Row
from export.folder.manifest import HostRecord

COLUMNS = (
    "model", "target", "precision", "batch", "threads", "median_ms", "iqr_ms", "images_per_s", "speedup", "gops",
    "limit_share", "size_mb", "load_ms", "first_ms", "memory_mb", "error", "budget",
)  # fmt: skip
_HEADINGS = (
    "model", "target", "precision", "batch", "threads", "ms a batch", "quartiles apart", "images/s", "times baseline",
    "Gop/s", "of the limit", "MB", "loads in ms", "memory, MB", "error / budget",
)  # fmt: skip


def bench_rows(bench: Measured) -> list[dict[str, Any]]:
    """A mapping of `COLUMNS` for each row; `speedup` null where there is nothing to compare with."""
    return [_row(bench, row) for row in bench.rows]


def _row(bench: Measured, row: Row) -> dict[str, Any]:
    speedup = bench.speedup(row)
    values = (
        row.model,
        row.target,
        row.precision,
        row.batch,
        row.threads,
        _figure(row.timing.median_ms),
        _figure(row.timing.iqr_ms),
        _figure(row.images_per_s),
        _figure_or_none(speedup),
        _figure(row.operations_per_s / 1e9),
        _figure_or_none(bench.limit_share(row)),
        _figure(row.verified.artifact.size_bytes / 1e6),
        *map(_figure_or_none, (row.spent.load_ms, row.spent.first_ms, row.spent.memory_mb)),
        row.gate.worst,
        row.gate.budget,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _figure(value: float) -> float:
    """With five significant digits: with three decimals, a row 24 times as slow as its baseline read 0.041."""
    return float(f"{value:.5g}")


def _figure_or_none(value: float | None) -> float | None:
    return None if value is None else _figure(value)


def bench_record(bench: Measured) -> dict[str, Any]:
    """Everything, samples too, in nanoseconds."""
    host = bench.host
    return {
        "command": list(bench.command),
        "host": HostRecord.from_attributes(host, cores=host.physical_cores).to_json(),
        "tools": dict(bench.tools),
        "rows": [
            {
                **values,
                "image_size": row.image_size.to_json(),
                "noisy": row.timing.noisy,
                "sha256": row.verified.artifact.sha256,
                "throughput": [
                    {
                        "streams": each.streams,
                        "images_per_s": _figure(each.images_per_s),
                        "samples": [_figure(sample) for sample in each.samples],
                    }
                    for each in row.throughputs
                ],
                "samples_ns": list(row.timing.samples_ns),
            }
            for values, row in zip(bench_rows(bench), bench.rows, strict=True)
        ],
        "limits": [
            {
                "arithmetic": str(each.arithmetic),
                "gops": _figure(each.operations_per_s / 1e9),
                "library": each.library,
                "shape": list(each.shape),
            }
            for each in bench.limits.values()
        ],
        "compared": [_claim(each) for each in compared(bench)],
        "unmeasured": [
            f"{claim.first} over {claim.second}, {claim.target} {claim.first_form}: {claim.paper} in the paper"
            for claim in unmeasured(bench)
        ],
        "untrained": list(bench.untrained),
        "notes": list(bench.notes),
    }


def _claim(each: Compared) -> dict[str, Any]:
    first, second = each.first, each.second
    return {
        "first": f"{first.model} {first.precision}",
        "second": f"{second.model} {second.precision}",
        "target": each.claim.target,
        "batch": first.batch,
        "threads": first.threads,
        "ratio": _figure(each.ratio),
        "paper": each.claim.paper,
        "holds": each.holds,
        "verdict": each.verdict,
        "noisy": each.noisy,
    }


def as_csv(bench: Measured) -> str:
    """With a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(bench_rows(bench))
    return text.getvalue()


def as_markdown(record: Mapping[str, Any]) -> str:
    """A table, what it was measured on, and what the authors published of the models in it."""
    host, tools = record["host"], record["tools"]
    rows = record["rows"]
    lines = [
        "# Benchmark",
        "",
        f"`vit-export {' '.join(record['command'])}` on {host['cpu']} ({host['isa']}), {host['os']}: "
        + ", ".join(f"{name} {version}" for name, version in tools.items())
        + ". Every row passed its gates first; all were timed in one run, in turns; medians.",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        "|---" * len(_HEADINGS) + "|",
    ]
    for row in rows:
        speedup = "" if row["speedup"] is None else f"{row['speedup']:.3g}"
        share = "" if row["limit_share"] is None else f"{row['limit_share']:.0%}"
        precision = "as timm exports it" if row["precision"] == STOCK else row["precision"]
        lines.append(
            f"| {row['model']} | {row['target']} | {precision} | {row['batch']} | {row['threads']} "
            f"| {row['median_ms']:.2f} | {row['iqr_ms']:.2f} | {row['images_per_s']:.0f} | {speedup} "
            f"| {row['gops']:.0f} | {share} | {row['size_mb']:.1f} "
            f"| {_or_none(row['load_ms'])} | {_or_none(row['memory_mb'])} "
            f"| {row['error']:.1e} / {row['budget']:.1e} |"
        )
    lines += ["", *_streams(rows), *_limits(record["limits"]), *_claims(record["compared"])]
    lines += [f"- not measured: {claim}" for claim in record["unmeasured"]]
    lines += [
        "",
        *_noisy(rows),
        *_untrained(record["untrained"]),
        *_paper(rows),
        *(f"- {note}" for note in record["notes"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _or_none(value: float | None) -> str:
    """Of PyTorch, which is not run alone, there is none."""
    return "" if value is None else f"{value:.0f}"


def _streams(rows: list[dict[str, Any]]) -> list[str]:
    """Images a second of what was asked by several at once."""
    found = [(row, each) for row in rows for each in row["throughput"]]
    if not found:
        return []
    lines = ["| model | target | precision | batch | streams | images/s |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['model']} | {row['target']} | {row['precision']} | {row['batch']} | {each['streams']} "
        f"| {each['images_per_s']:.0f} |"
        for row, each in found
    ]
    return [*lines, ""]


def _limits(limits: list[dict[str, Any]]) -> list[str]:
    """What the column says the share of."""
    said = (f"{each['gops']:.0f} Gop/s in {each['arithmetic']} ({each['library']})" for each in limits)
    return [f"One core multiplied at most: {', '.join(said)}.", ""] if limits else []


def _claims(claims: list[dict[str, Any]]) -> list[str]:
    """How many times as fast, ours beside the paper's."""
    if not claims:
        return []
    lines = ["| times as fast | target | batch | threads | here | the paper | |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {each['first']} over {each['second']} | {each['target']} | {each['batch']} | {each['threads']} "
        f"| {each['ratio']:.2f} | {'' if each['paper'] is None else each['paper']} | {each['verdict']} |"
        for each in claims
    ]
    return [*lines, ""]


def _noisy(rows: list[dict[str, Any]]) -> list[str]:
    noisy = sum(row["noisy"] for row in rows)
    if not noisy:
        return []
    return [f"The host was noisy: the quartiles of {noisy} of {len(rows)} rows are more than a tenth apart.", ""]


def _untrained(models: list[str]) -> list[str]:
    if not models:
        return []
    known = f"The weights of {', '.join(models)} are random: latency does not depend on them"
    return [f"{known}, and what int8 costs on them says nothing about accuracy.", ""]


def _paper(rows: list[dict[str, Any]]) -> list[str]:
    """The authors' own figures (paper, table 2), as `efficientvit.spec` has them."""
    known = [name for name in MODELS if any(row["model"] == name for row in rows)]
    lines = [
        f"The authors' figures, images of {PUBLISHED_SIZE} pixels (Liu et al., CVPR 2023, table 2), from their host:",
        "",
        "| model | ImageNet top-1, % | CPU, images/s | ONNX, images/s |",
        "|---|---|---|---|",
    ]
    for name in known:
        paper = MODELS[name].paper
        lines.append(f"| {name} | {paper.top1} | {paper.cpu_images_per_s} | {paper.onnx_images_per_s} |")
    return [*lines, ""]
