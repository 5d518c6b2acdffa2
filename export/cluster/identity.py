"""Who a worker is: version, code and tools. One of another kind is refused by name, before it gets any work."""

import platform
import re
from collections.abc import Mapping
from typing import Any

from export import __version__
from export.cache import fingerprint

EXTRA = "vit_export"
"""Under this name the scheduler shows a worker's identity. Plain text: nothing runs on a worker that is not known."""

_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.(?:dist|egg)-info")
_SHOWN = 5


def identity(_: object = None) -> dict[str, Any]:
    """Of this process. The argument is the worker that Dask passes."""
    return {
        "version": __version__,
        "code": fingerprint.code(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "tools": _tools(),
    }


def _tools() -> dict[str, str]:
    """Installed distributions and their versions, from the fingerprint that binds the cache."""
    found = (_FOLDER.fullmatch(name) for name in fingerprint.installed())
    return {_plain(match["name"]): match["version"] for match in found if match is not None}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def differences(other: Mapping[str, Any] | None, own: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a worker that says `other` must not work for a client that is `own`, in words; empty where it may.

    A tool that only one of the two has does not count: a Mac has no CUDA, and what a worker cannot make it does not
    offer.
    """
    if other is None:
        return ("it is no worker of vit-export; start it with `vit-export worker`",)
    found = [
        f"{name} {other.get(key)} there, {own[key]} here"
        for name, key in (("vit-export", "version"), ("Python", "python"))
        if other.get(key) != own[key]
    ]
    if not found and other.get("code") != own["code"]:
        found.append(f"other code of vit-export {own['version']}: {str(other.get('code'))[:12]} there, "
                     f"{own['code'][:12]} here")  # fmt: skip
    theirs, ours = other.get("tools", {}), own["tools"]
    tools = [
        f"{name} {theirs[name]} there, {version} here"
        for name, version in ours.items()
        if theirs.get(name, version) != version
    ]
    more = [f"and {len(tools) - _SHOWN} more tools"] if len(tools) > _SHOWN else []
    return (*found, *tools[:_SHOWN], *more)
