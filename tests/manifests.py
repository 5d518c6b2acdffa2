"""A manifest with every field, for tests that write folders by hand."""

from collections.abc import Mapping
from typing import Any

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from runtimes.precision import Precision
from validation.gates import table


def port(name: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "dtype": "float32", "layout": "NCHW" if len(shape) == 4 else "NC"}


def stage(name: str, artifact: dict[str, Any], precision: Precision) -> dict[str, Any]:
    verdict: dict[str, Any] = {
        "status": "not_run",
        "evidence": None,
        "reason": "no device here",
        "remedy": "run its kit",
        "gates": dict.fromkeys(table.names()),
        "batches": [],
        "top1": None,
    }
    whole: dict[str, Any] = {
        "path": None,
        "precision": precision.to_json(),
        "source_sha256": None,
        "bytes": 1,
        "notes": [],
        "tools": {},
    }
    return {
        "name": name,
        "artifact": {**whole, **artifact},
        "seconds": 1.0,
        "cached": False,
        "operators": 1,
        "verdict": verdict,
    }


def manifest(side: int, classes: int, precision: Precision, **changes: Any) -> dict[str, Any]:
    """Of an artifact that was not run: `changes` name the files, which have digests."""
    record: dict[str, Any] = {
        "schema": 1,
        "vit_export": "0.0.test",
        "command": [],
        "status": "not_run",
        "evidence_required": "reference",
        "exit_code": 3,
        "model": {
            "name": "m0",
            "image_size": side,
            "classes": classes,
            "batch": 1,
            "inputs": [port("image", 1, 3, side, side)],
            "outputs": [port("logits", 1, classes)],
        },
        "weights": {
            "source": "seeded:0",
            "sha256": "0" * 64,
            "trained": False,
            "fallback": False,
            "digest_published": None,
            "notes": [],
        },
        "self_check": {
            "vacuous": False,
            "failures": [],
            "unseen": [],
            "input_share": 1.0,
            "distinct_top1": 1.0,
            "float32_floor": 1e-7,
            "deploy_ratio": 1.0,
            "least_visible": {"part": "head", "over_budget": 10.0},
            "sham_over_budget": 10.0,
        },
        "preprocessing": Preprocessing(image_size=square(side)).to_json(),
        "precision": precision.to_json(),
        "golden": {"sha256": "0" * 64, "images": 1, "kinds": {}, "not_judged": [], "skipped": [], "path": None},
        "reference": None,
        "tools": {},
        "host": {"os": "", "cpu": "", "isa": "", "cores": 1, "python": ""},
        "settings": None,
        "stages": [],
        "blame": None,
        "failed": None,
        "artifact": None,
        "coreml": None,
        "calibration": None,
        "tensorrt": None,
        "accuracy": None,
        "devices": [],
        "timing": {"measured": False, "reason": "--no-time"},
    }
    return changed(record, changes)


def changed(record: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which the fields have other values; those of a field that is an object are changed one by one."""
    return {
        name: changed(value, changes[name])
        if isinstance(value, dict) and isinstance(changes.get(name), dict)
        else changes.get(name, value)
        for name, value in {**changes, **record}.items()
    }
