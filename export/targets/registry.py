"""The targets by name: ours, and those that installed packages add. docs/adding-a-target.md says how.

A package adds a target through an entry point of the group `vit_export.targets`, named as the target is, whose object
is a `Target`. It is loaded when it is asked for: a broken package does not keep anybody from the other targets.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from efficientvit.errors import BadOption, StageFailed
from export.targets.coreai.target import TARGET as COREAI
from export.targets.coreml.target import TARGET as COREML
from export.targets.onnx.target import TARGET as ONNX
from export.targets.openvino.target import TARGET as OPENVINO
from export.targets.target import API, Target
from export.targets.tensorrt.target import TARGET as TENSORRT
from runtimes.host import plugins
from runtimes.host.plugins import distribution_of

BUILT_IN: Mapping[str, Target] = {target.name: target for target in (ONNX, OPENVINO, COREML, COREAI, TENSORRT)}

_STAGES = [stage for target in BUILT_IN.values() for plan in target.precisions.values() for stage, _ in plan]

STAGES = tuple(dict.fromkeys(stage.name for stage in _STAGES))
"""Names of the stages that a precision asks for; an option may ask for `compress`, and `wrap` comes after all."""

SHARED = frozenset(stage.name for stage in _STAGES if stage.shared)
"""Names of the stages whose files several targets take."""


class _Targets(Mapping[str, Target]):
    """Every target, ours first. A name costs nothing; the target of an installed package is loaded by its lookup."""

    def __getitem__(self, name: str) -> Target:
        points = _installed().get(name, ())
        if name in BUILT_IN and not points:
            return BUILT_IN[name]
        if len(points) > 1 or name in BUILT_IN:
            others = ["vit-export itself"] if name in BUILT_IN else []
            raise StageFailed(
                f"more than one target is called '{name}'",
                expected=f"one entry point of that name in the group '{plugins.TARGETS}'",
                got=", ".join([*others, *map(distribution_of, points)]),
                next_step=f"pip uninstall {distribution_of(points[-1])}, or rename its target",
            )
        if not points:
            raise KeyError(name)
        return _loaded(points[0])

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*BUILT_IN, *_installed())))

    def __len__(self) -> int:
        return len(tuple(iter(self)))


TARGETS: Mapping[str, Target] = _Targets()


def find_target(name: str) -> Target:
    """The target that `--target` names.

    Raises:
        BadOption: there is none.
        StageFailed: it is an installed package's, and cannot be used.
    """
    if name not in set(TARGETS):
        raise BadOption(
            f"unknown target '{name}'",
            expected=", ".join(TARGETS),
            got=name,
            next_step="name one of them with -t, or all",
        )
    return TARGETS[name]


def usable() -> Iterator[Target]:
    """Every target that can be loaded: a broken package takes nothing from the others."""
    for name in TARGETS:
        with contextlib.suppress(StageFailed):
            yield TARGETS[name]


def section_types(names: Iterable[str]) -> dict[str, type | None]:
    """The types of these targets' sections of the manifest, of those that have one; None where one cannot be loaded."""
    found: dict[str, type | None] = {}
    for name in names:
        try:
            section = TARGETS[name].section
        except StageFailed:
            found[name] = None
        else:
            found |= {} if section is None else {name: section().type}
    return found


@cache
def _installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in plugins.installed(plugins.TARGETS):
        found.setdefault(point.name, []).append(point)
    return {name: tuple(points) for name, points in found.items()}


@cache
def _loaded(point: EntryPoint) -> Target:
    what = f"the target '{point.name}' of the package '{distribution_of(point)}' cannot be used"
    expected = f"an export.targets.target.Target named '{point.name}' for version {API} of the interface"
    target: Target = plugins.load(point, what, expected, lambda found: _wrong_with(found, point.name))
    return target


def _wrong_with(target: Any, name: str) -> str | None:
    if not isinstance(target, Target):
        return f"a {type(target).__name__}"
    if target.api != API:
        return f"one for version {target.api} of the interface"
    return None if target.name == name else f"one that is called '{target.name}'"
