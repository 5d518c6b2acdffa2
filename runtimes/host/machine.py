"""This host: what a measurement must be read together with."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

# Widest first, by the names of Linux's /proc/cpuinfo. What decides here is arithmetic on float16, bfloat16
# and int8: x86 without VNNI saturates in unsigned x signed int8, OpenVINO takes bfloat16 where it finds it.
_AVX512 = ("avx512_fp16", "avx512_bf16", "avx512_vnni", "avx512f")
_X86 = ("amx_bf16", "amx_int8", *_AVX512, "avx_vnni", "avx2", "avx")
_X86_NAMES = ("x86_64", "AMD64", "i686")
_DOT_PRODUCTS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
_ARM = ("sme", "sve2", "sve", "bf16", "i8mm", "asimddp", "asimdhp", "asimd", "neon")


_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Host:
    """One machine. `extensions`: instruction sets that matter here, widest first; `memory_bytes`: in all."""

    os: str
    cpu: str
    architecture: str
    extensions: tuple[str, ...]
    physical_cores: int
    usable_cpus: int
    memory_bytes: int
    python: str

    @property
    def isa(self) -> str:
        """The widest instruction-set extension, or the architecture where none is known."""
        return self.extensions[0] if self.extensions else self.architecture

    @property
    def saturates_int8(self) -> bool:
        """x86 whose sums of two products of uint8 and int8 have 16 bits: none of its extensions is for dot products.

        False where the extensions are not known.
        """
        return bool(self.extensions) and self.architecture in _X86_NAMES and _DOT_PRODUCTS.isdisjoint(self.extensions)


@cache
def this_host() -> Host:
    """The host that this process runs on."""
    cpuinfo = _cpuinfo()
    architecture = platform.machine()
    flags = cpuinfo.get("flags", cpuinfo.get("Features", "")).split()
    if architecture == "arm64":  # macOS and Windows name it so, and have no /proc; every such CPU has it
        flags.append("neon")
    return Host(
        os=platform.platform(terse=True),
        cpu=cpuinfo.get("model name") or _sysctl("machdep.cpu.brand_string") or architecture,
        architecture=architecture,
        extensions=widest_first(flags),
        physical_cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        usable_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
    )


def free_memory_bytes() -> int:
    """Available memory of the host, or of the container that this runs in, whichever is less."""
    limits = [psutil.virtual_memory().available]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = ((_CGROUP / name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if most.isdigit():
            limits.append(max(0, int(most) - int(now)))
    return min(limits)


def widest_first(flags: Iterable[str]) -> tuple[str, ...]:
    """Those CPU flags that matter to inference, widest first; Linux's `asimd` is called `neon`."""
    present = set(flags)
    if "asimd" in present:
        present = present - {"asimd"} | {"neon"}
    return tuple(name for name in (*_X86, *_ARM) if name in present)


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """(package, version) of those distributions that are installed, in the order asked; imports none."""
    found: list[tuple[str, str]] = []
    for package in packages:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def version(package: str) -> str:
    """The installed version of a distribution, or `unknown`."""
    return dict(versions(package)).get(package, "unknown")


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: its ru_maxrss survives exec and starts from the parent's.
        return int(_fields(status.read_text())["VmHWM"].split()[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpuinfo() -> Mapping[str, str]:
    path = Path("/proc/cpuinfo")
    return _fields(path.read_text()) if path.is_file() else {}


def _fields(text: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


def _sysctl(name: str) -> str:
    if sys.platform != "darwin":
        return ""
    asked = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip()
