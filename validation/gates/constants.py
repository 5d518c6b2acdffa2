"""Constants: every constant of an artifact is a tensor of the deploy form, bit for bit.

A weight off by a unit in the last place moves the logits by less than any float noise; only an audit sees it.
Tensors are compared by digest, so that a folder can be audited again without the weights at hand.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.digests import ZEROS, constant_digest
from runtimes.reader import Constant
from runtimes.registry import read_constants
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit found; `mismatches` 0 passes."""

    compared: int
    wrong: tuple[str, ...]  # constants of the artifact that are not what they should be
    missing: tuple[str, ...]  # tensors of the deploy form that the artifact does not hold

    @property
    def mismatches(self) -> int:
        """Constants at fault."""
        return len(self.wrong) + len(self.missing)

    def __str__(self) -> str:
        if not self.mismatches:
            return f"{self.compared} constants, all bit-exact"
        return "; ".join(
            f"{len(names)} {what}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
            for what, names in (("wrong", self.wrong), ("missing", self.missing))
            if names
        )


def _is_structure(value: NDArray[Any]) -> bool:
    """A lone zero is the value that a Pad writes: part of the graph, and the structure gate's business."""
    return value.size == 1 and not value.any()


def _is_zero_point(name: str, value: NDArray[Any]) -> bool:
    """Of a symmetric quantizer, or of what is never negative: zeros, the structure gate's business."""
    return name.endswith("_zero_point") and not value.any()


def audit(actual: Iterable[Constant], expected: Mapping[str, str]) -> Audit:
    """Compare an artifact's floating-point and 8-bit constants with the digests of the deploy form's.

    A constant that still has a tensor's name must be that tensor. One that the converter renamed must be
    some tensor of the deploy form, and none may be left over: a converter may share one copy of equal tensors.
    Names are compared with underscores for dots, as torch.export writes them.
    """
    anywhere = set(expected.values())
    by_name = {name.replace(".", "_"): digest for name, digest in expected.items()}
    wrong: list[str] = []
    found: Counter[str] = Counter()
    for name, value in actual:
        if not (np.issubdtype(value.dtype, np.floating) or value.dtype in (np.int8, np.uint8)):
            continue
        digest = constant_digest(value)
        own = by_name.get(name.replace(".", "_"))
        right = digest == own if own is not None else digest in anywhere
        if right:
            found[digest] += 1
        elif own is None and (_is_structure(value) or _is_zero_point(name, value)):
            continue
        else:
            wrong.append(name)
    held = {*found, ZEROS}
    known = {name.replace(".", "_") for name in wrong}
    missing = [n for n, digest in expected.items() if digest not in held and n.replace(".", "_") not in known]
    return Audit(compared=sum(found.values()) + len(wrong), wrong=tuple(wrong), missing=tuple(missing))


def constants_gate(found: Audit) -> GateResult:
    """Number of constants that differ from the deploy form's by any bit, or are missing; budget 0."""
    return GateResult("constants", float(found.mismatches), 0.0, str(found))


CONSTANTS = Gate(
    name="constants",
    title="every stored constant with the deploy form's, bit for bit",
    applies=lambda _: True,
    judge=lambda trial: constants_gate(audit(read_constants(trial.artifact), trial.reference.constants)),
    blame=Where.LAYERS,
    counts="const",
    foreign=True,
)
