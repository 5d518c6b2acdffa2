"""The records that several JSON documents share, of what gates, blame and runtimes found."""

import math
from typing import Any

from runtimes.interface import Port
from runtimes.runtime import Attestation
from validation.blame.ranking import Blame, LayerError
from validation.gates import table
from validation.gates.result import GateResult, KindError

_LAYOUTS = {2: "NC", 4: "NCHW"}


def blame_record(stage: str | None, blame: Blame | None) -> dict[str, Any] | None:
    """The stage, and the layers and constants that are likely at fault, the likeliest first."""
    if blame is None:
        return None
    return {
        "stage": stage,
        "note": blame.note,
        "suspects": [
            {
                "module": suspect.module,
                "constant": suspect.constant,
                "layer": None if suspect.layer is None else layer_record(suspect.layer),
                "cause": suspect.cause,
                "says": str(suspect),
            }
            for suspect in blame.suspects
        ],
    }


def layer_record(layer: LayerError) -> dict[str, Any]:
    """One layer against the model's float64."""
    return {
        "name": layer.name,
        "kind": layer.kind,
        "module": layer.module,
        "error": number(layer.error),
        "floor": number(layer.floor),
        "passed": layer.passed,
        "low": number(layer.low),
        "high": number(layer.high),
    }


def gates_record(results: tuple[GateResult, ...]) -> dict[str, Any]:
    """Every gate by name; None of those that were not tried."""
    by_name = {result.gate: gate_record(result) for result in results}
    return {name: by_name.get(name) for name in table.names()}


def gate_record(result: GateResult) -> dict[str, Any]:
    """One gate."""
    return {
        "passed": result.passed,
        "worst": number(result.worst),
        "budget": number(result.budget),
        "floor": number(result.floor),
        "kind": result.kind,
        "detail": result.detail,
        "warning": result.warning,
        "kinds": [kind_record(kind) for kind in result.kinds],
    }


def kind_record(kind: KindError) -> dict[str, Any]:
    """One kind of golden input under a gate."""
    return {
        "kind": kind.kind,
        "worst": number(kind.worst),
        "worst_image": kind.worst_image,
        "floor": number(kind.floor),
        "budget": number(kind.budget),
        "error_over_floor": number(kind.worst / kind.floor),
        "max_abs": number(kind.max_abs),
        "cosine": number(kind.cosine),
        "snr_db": number(kind.snr_db),
        "kl_nats": number(kind.kl_nats),
    }


def number(value: float | None) -> float | str | None:
    """JSON has no NaN or infinity; they are written by name, so that they are not mistaken for a missing value."""
    if value is None or math.isfinite(value):
        return value
    return str(value)


def attestation_record(attestation: Attestation) -> dict[str, Any]:
    """How a runtime really ran."""
    return {
        "runtime": attestation.runtime,
        "version": attestation.version,
        "precision": attestation.precision,
        "threads": attestation.threads,
        "isa": attestation.isa,
        "settings": dict(attestation.settings),
    }


def port_record(port: Port) -> dict[str, Any]:
    """An input or output of an artifact."""
    return {
        "name": port.name,
        "shape": list(port.shape),
        "dtype": port.dtype,
        "layout": _LAYOUTS.get(len(port.shape)),
    }
