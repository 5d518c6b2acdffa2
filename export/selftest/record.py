"""`vit-export selftest --json`."""

from typing import Any

from export.folder.records import number
from export.selftest.result import SelfTest


def selftest_record(found: SelfTest) -> dict[str, Any]:
    """What `vit-export selftest --json` prints."""
    blamed, of = found.blamed
    return {
        "weights": {"source": found.weights.source, "sha256": found.weights.sha256, "trained": found.weights.trained},
        "seed": found.seed,
        "vacuous": list(found.check.failures),
        "kinds": found.kinds,
        "planted": len(found.detections),
        "caught": sum(each.caught for each in found.detections),
        "missed": len(found.missed),
        "invisible": len(found.invisible),
        "blamed": {"right": blamed, "of": of},
        "healthy": [
            {
                "target": each.target,
                "variant": each.variant,
                "stage": each.stage,
                "passed": each.passed,
                "why": each.why,
            }
            for each in found.healthy
        ],
        "faults": [
            {
                "name": each.name,
                "says": each.says,
                "target": each.target,
                "variant": each.variant,
                "stage": each.stage,
                "seen_by": list(each.seen_by),
                "blamed": each.blamed,
                "effect_over_budget": number(each.effect),
            }
            for each in found.detections
        ],
        "wrong_inputs": {each.name: number(each.effect) for each in found.inputs},
        "unplanted": list(found.unplanted),
        "exit_code": int(found.code),
    }
