"""Print the Markdown tables of docs/numerics.md from the manifests of exported folders.

vit-export all -t onnx -t openvino -w seeded --out exports
python docs/tables.py exports/*
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_KINDS = ("photo", "natural", "noise", "flat", "pattern", "impulse")


def main(folders: Sequence[str]) -> None:
    """Read every `manifest.json` and print both tables."""
    manifests = [json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8")) for folder in folders]
    manifests.sort(key=lambda manifest: (manifest["model"]["name"], manifest["stages"][-1]["name"]))
    _print(_self_checks(manifests))
    _print(_ratios(manifests))


def _self_checks(manifests: Iterable[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield (
        "model",
        "input share",
        "distinct winners",
        "float32 floor",
        "deploy / trained",
        "least visible",
        "sham / budget",
    )
    seen: set[str] = set()
    for manifest in manifests:
        check, name = manifest["self_check"], manifest["model"]["name"]
        if name in seen:
            continue
        seen.add(name)
        least = check["least_visible"]
        yield (
            name,
            f"{check['input_share']:.2f}",
            f"{check['distinct_top1']:.0%}",
            f"{check['float32_floor']:.1e}",
            f"{check['deploy_ratio']:.2f}",
            f"{least['over_budget']:.0f} x budget",
            f"{check['sham_over_budget']:.0f}",
        )


def _ratios(manifests: Iterable[dict[str, Any]]) -> Iterable[Sequence[str]]:
    """Error over floor in the precision gate: the budget is at 4 for float32 and at 2 for 16 bits."""
    yield "model", "runtime", "precision", *_KINDS, "under the runtime's defaults"
    for manifest in manifests:
        gate = manifest["stages"][-1]["verdict"]["gates"]["precision"]
        if gate is None:
            continue
        ratio = {kind["kind"]: f"{kind['error_over_floor']:.2f}" for kind in gate["kinds"]}
        settings, precision = manifest["settings"], manifest["precision"]
        defaults = settings["defaults"]
        beside = "" if defaults is None else _beside(defaults)
        yield (
            manifest["model"]["name"],
            settings["effective"]["runtime"],
            f"{precision['weights']} weights, {settings['effective']['precision']}",
            *(ratio.get(kind, "") for kind in _KINDS),
            beside,
        )


def _beside(defaults: dict[str, Any]) -> str:
    within = "within budget" if defaults["gate"]["passed"] else "OVER budget"
    return f"{defaults['effective']['precision']}, {defaults['gate']['worst']:.1e}, {within}"


def _print(rows: Iterable[Sequence[str]]) -> None:
    for index, row in enumerate(rows):
        sys.stdout.write(f"| {' | '.join(row)} |\n")
        if index == 0:
            sys.stdout.write(f"|{'---|' * len(row)}\n")
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
