"""What can be asked of a TensorRT engine beyond its precision, checked before anything is made."""

from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadOption
from export.targets.options import option
from export.targets.target import Job, TargetOptions

ARCHITECTURES = (75, 80, 86, 89, 120, 121)
"""The compute capabilities that TensorRT for RTX builds for ahead of time."""

DEFAULT_ARCHITECTURES = (80, 86, 89, 120)
"""Ampere, Ada and Blackwell; Turing (75) takes no float32 engine."""

DEFAULT_PROFILE = (1, 8, 16)

LAYERS = "layers.json"
"""The list of compiled layers, beside the engine."""


def _architectures(given: tuple[str, ...]) -> tuple[int, ...]:
    """`89`, or several with commas, of each time that `--sm` was given."""
    try:
        return tuple(int(part) for text in given for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"'{' '.join(given)}' is no list of compute capabilities, such as 80,86,89") from error


@dataclass(frozen=True, slots=True)
class TensorRtOptions(TargetOptions):
    """One engine's GPUs and batches. An enterprise build is for the GPU of its host alone.

    Raises:
        BadOption: a value out of range.
    """

    sm: tuple[int, ...] = option(
        DEFAULT_ARCHITECTURES,
        "--sm",
        "Compute capabilities that TensorRT for RTX builds for ahead of time, 89 for 8.9; repeatable. "
        f"[default: {','.join(map(str, DEFAULT_ARCHITECTURES))}]",
        metavar="N[,N...]",
        repeatable=True,
        parse=_architectures,
    )
    profile: tuple[int, int, int] = option(
        DEFAULT_PROFILE,
        "--profile",
        "With --batch dynamic: smallest, usual and largest batch size. "
        f"[default: {' '.join(map(str, DEFAULT_PROFILE))}]",
        metavar="MIN OPT MAX",
        type=int,
        nargs=3,
    )
    timing_cache: Path | None = option(
        None,
        "--timing-cache",
        "On a GPU host: a file that keeps kernel timings for the next enterprise build. [default: none]",
        metavar="FILE",
        type=Path,
    )

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

    def check(self, job: Job) -> None:
        """Turing's engines have no float32, and a profile says which batches a dynamic one is.

        Raises:
            BadOption: it was asked for all the same.
        """
        if 75 in self.sm and job.precision == "fp32":
            raise BadOption(
                "TensorRT for RTX builds no float32 engine for compute capability 7.5",
                expected="-p fp16, or --sm without 75",
                got="-p fp32 --sm 75",
                next_step="export twice: fp16 for Turing, fp32 for the rest",
            )
        if job.batch is not None and self.profile != DEFAULT_PROFILE:
            raise BadOption(
                "--profile is for a dynamic batch",
                expected="--batch dynamic with it",
                got=f"--batch {job.batch}",
                next_step="add --batch dynamic, or leave --profile out",
            )

    def slug_parts(self, batch: int | None) -> list[str]:
        """What is not the default and changes the engine, for the folder's name."""
        parts = []
        if batch is None and self.profile != DEFAULT_PROFILE:
            parts.append("profile" + "-".join(map(str, self.profile)))
        if self.sm != DEFAULT_ARCHITECTURES:
            parts.append("sm" + "-".join(map(str, self.sm)))
        return parts

    @property
    def reproducible(self) -> bool:
        """A timing cache is the builder's own, and changes as it builds."""
        return self.timing_cache is None
