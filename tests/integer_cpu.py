"""CPUs on which int8 files are rightly rejected: without VNNI, ONNX Runtime's and OpenVINO's kernels saturate."""

import pytest

from runtimes.host.machine import this_host

needs_exact_int8 = pytest.mark.skipif(
    this_host().saturates_int8,
    reason="this CPU saturates sums of 8-bit products, and the execution gate rejects int8 files here",
)
