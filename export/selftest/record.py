"""`vit-export selftest --json`."""

from typing import Any

from export.selftest.result import SelfTest


def selftest_record(found: SelfTest) -> dict[str, Any]:
    """What `vit-export selftest --json` prints."""
    (blamed, of), (told, changed), (named, _) = found.blamed, found.told_apart, found.named
    return {
        "weights": {"source": found.weights.source, "sha256": found.weights.sha256, "trained": found.weights.trained},
        "seed": found.seed,
        "vacuous": found.check.by_samples,
        "kinds": found.kinds,
        "planted": len(found.detections),
        "caught": sum(each.caught for each in found.detections),
        "missed": len(found.missed),
        "invisible": len(found.invisible),
        "blamed": {"right": blamed, "of": of},
        "proof": {
            "told_apart": told,
            "of": changed,
            "taken_for_equal": [each.name for each in found.taken_for_equal],
            "named": {"right": named, "of": found.named[1]},
        },
        "healthy": found.healthy,
        "faults": found.detections,
        "wrong_inputs": {each.name: each.effect_over_budget for each in found.inputs},
        "unplanted": found.unplanted,
        "exit_code": int(found.code),
    }
