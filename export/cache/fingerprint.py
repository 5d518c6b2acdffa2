"""All that every entry of the cache is bound to: our code, what is installed, the environment, the hardware."""

import functools
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from runtimes.host.gpu import gpus
from runtimes.host.machine import this_host
from runtimes.host.plugins import FORMATS, TARGETS
from runtimes.host.plugins import installed as points_of

PACKAGES = ("efficientvit", "runtimes", "validation", "export")

_FLAGS = re.compile(
    r"(OMP|MKL|KMP|GOMP|DNNL|ONEDNN|OPENBLAS|ATEN|TORCH|PYTORCH|ORT|OV|OPENVINO|CUDA|NVIDIA|TRT)_.*"
    r"|LD_PRELOAD|LD_LIBRARY_PATH|GLIBC_TUNABLES"
)
"""Variables of the environment that change what libraries compute."""
_NO_MATTER = "KMP_DUPLICATE_LIB_OK"
"""threadpoolctl sets it when it is imported. It lets a process with two copies of OpenMP go on."""

_INSTALLED = (".dist-info", ".egg-info")
_VENDORED = "_vendor"

Changing = tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]
"""Digest of the code, installed distributions with their versions, variables."""


def key_of(**parts: object) -> str:
    """SHA-256 over the parts' text, and over all that every entry is bound to."""
    text = json.dumps({name: str(value) for name, value in parts.items()}, sort_keys=True)
    return hashlib.sha256(f"{_ground()}\n{text}".encode()).hexdigest()


def unchanged() -> bool:
    """Nothing changed under the running process since its first key."""
    return _now() == _at_first()


@functools.cache
def _ground() -> str:
    return json.dumps([_at_first(), str(this_host()), gpus()])


@functools.cache
def _at_first() -> Changing:
    """As it was when first asked for: modules and tools are loaded when they are needed."""
    return _now()


def _now() -> Changing:
    named = ((name, value) for name, value in os.environ.items() if _FLAGS.fullmatch(name))
    flags = sorted(each for each in named if each[0] != _NO_MATTER)
    return _code_now(), installed(), tuple(flags)


def installed() -> tuple[str, ...]:
    """Every installed distribution with its version, as the names of their metadata folders have them.

    All of them, and no list of those that matter: whoever adds a converter could forget it there, and a verdict made
    with the version before would be taken for one of today. Of a distribution that is there twice, the one that Python
    imports: the first. What a package brings along for itself is not installed, and its folder is on the search path
    only once somebody has imported that package: setuptools appends its own.
    """
    folders = (Path(entry or ".") for entry in dict.fromkeys(sys.path))
    listed = (sorted(path.name for path in folder.iterdir()) for folder in folders if _installs(folder))
    names = (name for folder in listed for name in folder if name.endswith(_INSTALLED))
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(re.sub(r"[-_.]+", "-", name.partition("-")[0]).lower(), name)
    return tuple(first.values())


def _installs(folder: Path) -> bool:
    return folder.name != _VENDORED and folder.is_dir()


def code() -> str:
    """SHA-256 over our own code and that of plug-ins, wherever it lies: the same on every host that has the same."""
    return _at_first()[0]


def _code_now() -> str:
    states = ((name, path, Path(path).stat()) for name, path in _named_files())
    return _code(tuple((name, path, state.st_mtime_ns, state.st_size) for name, path, state in states))


def code_files() -> list[Path]:
    """Every file of the four packages and of those that add targets or formats, found as Python finds them."""
    return [Path(path) for _, path in _named_files()]


def _named_files() -> list[tuple[str, str]]:
    """With their names below the folder that the package lies in. In plain text: they are listed for every entry."""
    return sorted(
        (path[len(str(root.parent)) + 1 :].replace(os.sep, "/"), path)
        for root in _roots()
        for path in (_below(root) if root.is_dir() else (str(root),))
        if not path.endswith(".pyc") and os.path.isfile(path)  # noqa: PTH113
    )


def _below(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        yield from (f"{folder}{os.sep}{name}" for name in names)


def _roots() -> Iterator[Path]:
    for package in (*PACKAGES, *_plug_ins(_searched())):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations is not None:
            yield from map(Path, spec.submodule_search_locations)
        elif spec is not None and spec.origin is not None:  # a package that is one file
            yield Path(spec.origin)


def _searched() -> tuple[tuple[str, int], ...]:
    """The folders in which distributions are found, and when each last got or lost one."""
    folders = (Path(entry or ".") for entry in sys.path)
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders if folder.is_dir())


@functools.lru_cache(maxsize=1)
def _plug_ins(_: tuple[tuple[str, int], ...]) -> list[str]:
    """Packages that add targets or formats, by name. Every distribution is asked, which takes longer than our code."""
    points = (point for group in (TARGETS, FORMATS) for point in points_of(group))
    return sorted({point.module.partition(".")[0] for point in points})


@functools.lru_cache(maxsize=1)
def _code(files: tuple[tuple[str, str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for name, path, _, _ in files:
        total.update(f"{name}\0".encode() + Path(path).read_bytes())
    return total.hexdigest()
