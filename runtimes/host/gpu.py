"""The NVIDIA GPUs of this host, as the driver reports them."""

import ctypes
import sys
from functools import cache

_NAME_BYTES, _UUID_BYTES = 256, 16


@cache
def gpus() -> tuple[str, ...]:
    """Name, UUID and driver version of each CUDA device that the driver shows. Imports nothing and makes no context."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return ()
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return tuple(f"{_described(driver, index)}, driver {version.value}" for index in range(count.value))


def count_gpus() -> int:
    """CUDA devices that the driver shows; 0 where there is no driver."""
    return len(gpus())


def _described(driver: ctypes.CDLL, index: int) -> str:
    device = ctypes.c_int(0)
    name, uuid = ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_ubyte * _UUID_BYTES)()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    driver.cuDeviceGetUuid(uuid, device)
    return f"{name.value.decode(errors='replace')} {bytes(uuid).hex()}"
