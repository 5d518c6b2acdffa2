"""Every budget of the gates: the built-in factors, and what the caller allows instead. docs/numerics.md says why."""

from dataclasses import dataclass

from efficientvit.errors import BadOption
from runtimes.precision import Dtype

STRUCTURE_FACTOR = 4.0
"""Structure, and float32 precision: budget over noise floor."""

PRECISION_FACTOR = {Dtype.FP32: 4.0, Dtype.FP16: 2.0, Dtype.BF16: 2.0}
"""Precision: budget over noise floor, by the narrower of weights and activations."""

QUALITY_SHARE = 1 / 3
"""Quality: the default budget, as a share of the error of the best answer that ignores the image."""

ACCURACY_POINTS = 0.5
"""Accuracy: the default budget, in percentage points of top-1."""

_OF_A_RUN = (
    ("--latency-budget", "latency_ms", "milliseconds"),
    ("--load-budget", "load_ms", "milliseconds"),
    ("--memory-budget", "memory_mb", "megabytes"),
)
"""Of what only a run can tell: option, field, unit."""


def require_compressed(*, compressed: bool) -> None:
    """A quality budget is of compressed weights.

    Raises:
        BadOption: they are not.
    """
    if not compressed:
        raise BadOption(
            "--quality-budget is for compressed weights",
            expected="a file made with --weights-bits or -p int8",
            got="one whose weights are not compressed",
            next_step="leave --quality-budget out: uncompressed weights have budgets from their noise floor",
        )


def require_points(value: float, option: str) -> None:
    """What may be lost of top-1. `option`: as the command that was called has it.

    Raises:
        BadOption: out of range.
    """
    if not 0 <= value <= 100:
        raise BadOption(
            f"{option} is in percentage points",
            expected="0 to 100",
            got=str(value),
            next_step=f"leave it out for {ACCURACY_POINTS:g} points",
        )


@dataclass(frozen=True, slots=True)
class Budgets:
    """What the caller allows; None leaves the default.

    `quality`: relative error (RMS) that compressed weights may cost. `accuracy`: percentage points of top-1 that may be
    lost. `readiness`: least share of the work that must fit the Neural Engine; by default it is only reported.
    `latency_ms` a batch, `load_ms`, `memory_mb` over an empty runtime's, `size_mb` (10^6 bytes): the most that what
    ships may take; by default it is only reported.

    Raises:
        BadOption: a value out of range.
    """

    quality: float | None = None
    accuracy: float | None = None
    readiness: float | None = None
    latency_ms: float | None = None
    load_ms: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None

    def __post_init__(self) -> None:
        if self.quality is not None and not 0 < self.quality < float("inf"):
            raise BadOption(
                "--quality-budget is a relative error",
                expected="above 0",
                got=str(self.quality),
                next_step="leave it out for a third of what an answer costs that ignores the image",
            )
        if self.accuracy is not None:
            require_points(self.accuracy, "--accuracy-budget")
        if self.readiness is not None and not 0 < self.readiness <= 1:
            raise BadOption(
                "--ane-budget is a share",
                expected="above 0, at most 1",
                got=str(self.readiness),
                next_step="for 95 % of the work write --ane-budget 0.95",
            )
        for flag, name, unit in (*_OF_A_RUN, ("--size-budget", "size_mb", "megabytes")):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadOption(
                    f"{flag} is in {unit}",
                    expected="above 0",
                    got=str(value),
                    next_step="leave it out to have it measured and not judged",
                )

    @property
    def spends(self) -> tuple[str, ...]:
        """The options that were given of which only a run can tell."""
        return tuple(flag for flag, name, _ in _OF_A_RUN if getattr(self, name) is not None)
