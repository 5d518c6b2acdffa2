"""Packages whose publisher has wheels for some hosts alone, which pip would only say after it was tried."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ThisHost:
    """What decides which wheels fit. `release`: of glibc on Linux, of macOS on a Mac; empty where there is none."""

    python: Version
    system: str
    machine: str
    release: Version

    @classmethod
    def found(cls) -> "ThisHost":
        """The host that this runs on."""
        said = platform.mac_ver()[0] if sys.platform == "darwin" else platform.libc_ver()[1]
        release = tuple(int(part) for part in said.split(".") if part.isdigit())
        return cls(sys.version_info[:2], sys.platform, platform.machine(), release)

    def __str__(self) -> str:
        library = {"darwin": "macOS", "linux": "glibc"}.get(self.system)
        release = f", {library} {_text(self.release) or 'none'}" if library else ""
        return f"Python {_text(self.python)}, {self.system} on {self.machine}{release}"


@dataclass(frozen=True, slots=True)
class Wheels:
    """The hosts that have one. `oldest`: by system and processor, of glibc or of macOS."""

    python: tuple[Version, Version]
    oldest: Mapping[tuple[str, str], Version]

    def fit(self, host: ThisHost) -> bool:
        """Whether pip finds one for the host."""
        least, most = self.python
        oldest = self.oldest.get((host.system, host.machine))
        return least <= host.python <= most and oldest is not None and host.release >= oldest

    def __str__(self) -> str:
        least, most = map(_text, self.python)
        names = {"darwin": "macOS {} or later", "linux": "Linux with glibc {} or later"}
        hosts = [f"{names[system].format(_text(release))} on {cpu}" for (system, cpu), release in self.oldest.items()]
        return f"Python {least} to {most}; {', or '.join(hosts)}"


WHEELS: Mapping[str, Wheels] = {
    # coreai-core 1.0.0b3, by the files that PyPI has.
    "coreai": Wheels(((3, 11), (3, 14)), {("linux", "x86_64"): (2, 34), ("darwin", "arm64"): (26,)}),
}
"""By the extra that has the package."""


def without_a_wheel(extra: str | None, host: ThisHost | None = None) -> tuple[str, str] | None:
    """The hosts that have wheels, and this one, which has none; None where it has."""
    wheels, host = WHEELS.get(extra or ""), host or ThisHost.found()
    return None if wheels is None or wheels.fit(host) else (str(wheels), str(host))


def _text(version: Version) -> str:
    return ".".join(map(str, version))
