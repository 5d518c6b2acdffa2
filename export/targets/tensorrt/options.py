"""What can be asked of a TensorRT engine beyond its precision, checked before anything is made."""

from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadOption

ARCHITECTURES = (75, 80, 86, 89, 120, 121)
"""The compute capabilities that TensorRT for RTX builds for ahead of time."""

DEFAULT_ARCHITECTURES = (80, 86, 89, 120)
"""Ampere, Ada and Blackwell; Turing (75) takes no float32 engine."""

DEFAULT_PROFILE = (1, 8, 16)


@dataclass(frozen=True, slots=True)
class TensorRtOptions:
    """One engine's targets.

    `sm`: compute capabilities to build for ahead of time; an enterprise build is for the GPU of its host alone.
    `profile`: smallest, usual and largest batch of a dynamic one. `timing_cache`: kept and used again by enterprise
    builds.

    Raises:
        BadOption: a value out of range.
    """

    sm: tuple[int, ...] = DEFAULT_ARCHITECTURES
    profile: tuple[int, int, int] = DEFAULT_PROFILE
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if not self.sm or set(self.sm) - set(ARCHITECTURES) or len(set(self.sm)) != len(self.sm):
            raise BadOption(
                "--sm takes compute capabilities, each once",
                expected=", ".join(map(str, ARCHITECTURES)),
                got=", ".join(map(str, self.sm)) or "none",
                next_step=f"leave --sm out for {','.join(map(str, DEFAULT_ARCHITECTURES))}",
            )
        least, usual, most = self.profile
        if not 1 <= least <= usual <= most:
            raise BadOption(
                "--profile is the smallest, the usual and the largest batch",
                expected="1 <= MIN <= OPT <= MAX",
                got=" ".join(map(str, self.profile)),
                next_step=f"leave --profile out for {' '.join(map(str, DEFAULT_PROFILE))}",
            )

    def require_dynamic(self, batch: int | None) -> None:
        """A profile says which batches a dynamic one is.

        Raises:
            BadOption: the batch is fixed.
        """
        if batch is not None and self.profile != DEFAULT_PROFILE:
            raise BadOption(
                "--profile is for a dynamic batch",
                expected="--batch dynamic with it",
                got=f"--batch {batch}",
                next_step="add --batch dynamic, or leave --profile out",
            )

    def require_architectures(self, precision: str) -> None:
        """Turing's engines have no float32.

        Raises:
            BadOption: it was asked for.
        """
        if 75 in self.sm and precision == "fp32":
            raise BadOption(
                "TensorRT for RTX builds no float32 engine for compute capability 7.5",
                expected="-p fp16, or --sm without 75",
                got="-p fp32 --sm 75",
                next_step="export twice: fp16 for Turing, fp32 for the rest",
            )

    def slug_parts(self, *, dynamic: bool) -> list[str]:
        """What is not the default and changes the engine, for the folder's name."""
        parts = []
        if dynamic and self.profile != DEFAULT_PROFILE:
            parts.append("profile" + "-".join(map(str, self.profile)))
        if self.sm != DEFAULT_ARCHITECTURES:
            parts.append("sm" + "-".join(map(str, self.sm)))
        return parts
