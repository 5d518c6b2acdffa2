import dataclasses
import platform
import sys

import numpy as np
import psutil
import pytest

from runtimes.host import machine as host
from runtimes.host.machine import peak_rss_bytes, this_host, version, versions, widest_first


@pytest.mark.parametrize(
    ("flags", "widest"),
    [
        (
            "sse2 avx avx2 fma avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16",
            "amx_bf16",
        ),
        ("sse2 avx avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("sse2 avx avx2 avx512f", "avx512f"),
        ("sse2 avx avx2 avx_vnni", "avx_vnni"),
        ("sse2 avx avx2", "avx2"),
        ("fp asimd asimddp", "asimddp"),
        ("fp asimd", "neon"),
    ],
)
def test_the_widest_extension_comes_first(flags: str, widest: str) -> None:
    assert widest_first(flags.split())[0] == widest


def test_a_cpu_with_nothing_known_is_called_by_its_architecture() -> None:
    assert widest_first(["fpu", "sse2"]) == ()
    assert dataclasses.replace(this_host(), extensions=(), architecture="riscv64").isa == "riscv64"


@pytest.mark.parametrize(
    ("architecture", "extensions", "saturates"),
    [
        ("x86_64", ("avx2", "avx"), True),
        ("AMD64", ("avx512f", "avx2"), True),
        ("x86_64", ("avx_vnni", "avx2"), False),
        ("x86_64", ("amx_bf16", "amx_int8", "avx512f"), False),
        ("x86_64", (), False),  # not known, and so not said
        ("aarch64", ("neon",), False),
    ],
)
def test_x86_without_dot_products_saturates(architecture: str, extensions: tuple[str, ...], saturates: bool) -> None:
    host = dataclasses.replace(this_host(), architecture=architecture, extensions=extensions)
    assert host.saturates_int8 is saturates


def test_this_host() -> None:
    here = this_host()
    assert here.python == platform.python_version()
    assert here.architecture == platform.machine()
    assert here.cpu
    assert here.isa
    assert 1 <= here.physical_cores <= (psutil.cpu_count() or 1)
    assert 1 <= here.usable_cpus <= (psutil.cpu_count() or 1)
    assert here.memory_bytes > 1 << 28


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_extensions_are_the_cpus_own() -> None:
    flags = host._cpuinfo().get("flags", host._cpuinfo().get("Features", "")).split()
    assert set(this_host().extensions) - {"neon"} <= set(flags)


def test_versions_are_of_what_is_installed_in_the_order_asked() -> None:
    found = versions("pytest", "no-such-package", "numpy")
    assert found == (("pytest", pytest.__version__), ("numpy", np.__version__))
    assert version("numpy") == np.__version__
    assert version("no-such-package") == "unknown"


def test_peak_memory_is_a_peak_in_bytes() -> None:
    before = peak_rss_bytes()
    held = np.ones(1 << 24)  # 128 MiB
    peak = peak_rss_bytes()
    assert peak >= psutil.Process().memory_info().rss * 0.95
    del held
    # The kernel brings its counters together late: they are off by some pages.
    assert peak_rss_bytes() >= 0.95 * peak
    assert peak >= 0.95 * before > 1 << 24
