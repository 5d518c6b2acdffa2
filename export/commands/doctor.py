"""`vit-export doctor`: what can be made, judged and timed on this host, and how to get the rest."""

import importlib.util
from dataclasses import dataclass
from importlib.metadata import packages_distributions

from efficientvit.errors import StageFailed
from efficientvit.installation import install_command
from export.targets.registry import TARGETS
from runtimes.host.machine import Host, this_host, version, versions
from runtimes.host.wheels import without_a_wheel
from runtimes.registry import native_runtime, runtime_for
from runtimes.runtime import Evidence


@dataclass(frozen=True, slots=True)
class Ability:
    """One target on this host. `remedy` says what is missing, or how to get it; None when nothing is."""

    target: str
    package: str
    version: str | None
    can_make: bool
    evidence: Evidence | None
    can_time: bool
    remedy: str | None


def examine() -> tuple[Host, tuple[Ability, ...]]:
    """This host, and what it can do for every target. Imports no converter."""
    return this_host(), tuple(_ability(name) for name in TARGETS)


def _ability(name: str) -> Ability:
    try:
        target = TARGETS[name]
    except StageFailed as error:  # an installed package's, and broken
        return Ability(name, "-", None, False, None, False, f"{error.what}: {error.got}; {error.next_step}")
    found = [package for package in target.packages if importlib.util.find_spec(package) is not None]
    package, installed = (*found, *target.packages)[0], bool(found)
    runtime = runtime_for(target.format)
    reason = runtime.unavailable()
    remedy = None if installed else _install(package, target.extra)
    return Ability(
        target=name,
        package=package,
        version=_version(package, target.distributions) if installed else None,
        can_make=installed,
        evidence=runtime.evidence if reason is None else None,
        can_time=reason is None and runtime.evidence is Evidence.NATIVE,
        remedy=remedy or reason or native_runtime(target.format).unavailable(),
    )


def _version(package: str, distributions: tuple[str, ...]) -> str:
    """Of the distribution that has the package: most have its name, and to look through all takes half a second."""
    likely = (each for each in distributions if each.replace("-", "_").startswith(package))
    own = versions(package, *likely)
    return own[0][1] if own else version(packages_distributions().get(package, [package])[0])


def _install(package: str, extra: str | None) -> str:
    if (unfit := without_a_wheel(extra)) is not None:
        hosts, this = unfit
        return f"{package} has wheels for {hosts}; this host is {this}"
    return f"pip install {package}" if extra is None else install_command(extra)
