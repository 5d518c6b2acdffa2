"""`--reduce-range` and `--all-int8`: how int8 is made, beyond what it is calibrated on."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from efficientvit.errors import BadOption
from runtimes.host.machine import Host, this_host
from runtimes.precision import Dtype, Precision

if TYPE_CHECKING:
    from export.request.request import Job


@dataclass(frozen=True, slots=True)
class Int8Options:
    """`reduce_range`: weights in 7 bits, among unsigned activations. `all_int8`: no layer may be left in float32."""

    reduce_range: bool = False
    all_int8: bool = False

    def slug_parts(self) -> tuple[str, ...]:
        """What changes the file; `all_int8` decides whether there is one."""
        return ("reduced",) if self.reduce_range else ()

    def typed(self, precision: Precision) -> Precision:
        """A stage's precision as these options have it."""
        if self.reduce_range and precision.activations is Dtype.UINT8:
            return replace(precision, weights=Dtype.INT7)
        return precision

    def require_used(self, jobs: "Iterable[Job]") -> None:
        """An option that changes nothing is a mistake.

        Raises:
            BadOption: no job is in int8, or none in int8 for CPUs where the range is to be reduced.
        """
        made = [job for job in jobs if job.int8 is not None]
        for option, given, used in (
            ("--reduce-range", self.reduce_range, any(job.plan[-1][1].weights is Dtype.INT7 for job in made)),
            ("--all-int8", self.all_int8, any(job.plan[-1][1].activations is Dtype.UINT8 for job in made)),
        ):
            if given and not used:
                raise BadOption(
                    f"{option} is for int8 files of ONNX Runtime",
                    expected="-t onnx -p int8 with it",
                    got="no such artifact",
                    next_step=f"add -t onnx -p int8, or leave {option} out",
                )


def saturation(host: Host | None = None) -> str | None:
    """What to know of int8 on this host: a sentence, or None where there is nothing.

    x86 without VNNI adds two products of uint8 and int8 in 16 bits, which saturate. Where a host's extensions are not
    known nothing is said.
    """
    host = host or this_host()
    if not host.saturates_int8:
        return None
    return (
        f"this CPU ({host.isa}) has no VNNI: sums of uint8 x int8 saturate at 16 bits in its fast kernels; "
        "--reduce-range keeps weights to 7 bits, for which there is room"
    )
