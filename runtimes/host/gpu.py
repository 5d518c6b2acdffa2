"""The NVIDIA GPUs of this host, as the driver reports them."""

import ctypes
import sys
from functools import cache

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NAME_BYTES, _UUID_BYTES = 256, 16
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@cache
def gpus() -> tuple[str, ...]:
    """Name, UUID and driver version of each CUDA device that the driver shows. Imports nothing and makes no context."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return ()
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return tuple(f"{_described(driver, index)}, driver {version.value}" for index in range(count.value))


@cache
def compute_capabilities() -> tuple[int, ...]:
    """Of the CUDA devices that the driver shows, each once: 89 for 8.9."""
    if not gpus():
        return ()
    driver = ctypes.CDLL(_LIBRARY)
    found = set()
    for index in range(len(gpus())):
        device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        found.add(10 * major.value + minor.value)
    return tuple(sorted(found))


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
