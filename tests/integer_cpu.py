"""CPUs on which int8 files are rightly rejected: without VNNI, ONNX Runtime's and OpenVINO's kernels saturate."""

import pytest

from runtimes.host.machine import this_host

_WHY = "this CPU saturates sums of 8-bit products, and the execution gate rejects int8 files here"

INT8_HERE = ("-p", "int8", *(("--reduce-range",) if this_host().saturates_int8 else ()))
"""The options of an int8 export that passes here."""

needs_exact_int8 = pytest.mark.skipif(this_host().saturates_int8, reason=_WHY)


def skip_without_exact_int8() -> None:
    """Within a test, one of whose cases is int8."""
    if this_host().saturates_int8:
        pytest.skip(_WHY)
