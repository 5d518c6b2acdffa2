"""Whether this host has an NVIDIA GPU that a driver answers for, asked of the driver itself."""

import ctypes
import sys
from functools import cache


@cache
def count_gpus() -> int:
    """CUDA devices that the driver shows; 0 where there is no driver. Imports nothing and makes no context."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
