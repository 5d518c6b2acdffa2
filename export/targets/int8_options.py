"""`--reduce-range` and `--all-int8`: how int8 is made, beyond what it is calibrated on."""

from dataclasses import dataclass, replace

from runtimes.host.machine import Host, this_host
from runtimes.precision import Dtype, Precision


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
