"""The targets by name: ours, and those that installed packages add. docs/adding-a-target.md says how.

A package adds a target through an entry point of the group `vit_export.targets`, named as the target is, whose object
is a `Target`. It is loaded when it is asked for: a broken package does not keep anybody from the other targets.
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from efficientvit.errors import BadOption, StageFailed
from export.targets.coreml.target import TARGET as COREML
from export.targets.onnx.target import TARGET as ONNX
from export.targets.openvino.target import TARGET as OPENVINO
from export.targets.target import API, Target
from export.targets.tensorrt.target import TARGET as TENSORRT

GROUP = "vit_export.targets"
BUILT_IN: Mapping[str, Target] = {target.name: target for target in (ONNX, OPENVINO, COREML, TENSORRT)}

SHARED = frozenset(
    stage.name
    for target in BUILT_IN.values()
    for plan in target.precisions.values()
    for stage, _ in plan
    if stage.shared
)
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
                expected=f"one entry point of that name in the group '{GROUP}'",
                got=", ".join([*others, *map(_distribution, points)]),
                next_step=f"pip uninstall {_distribution(points[-1])}, or rename its target",
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


@cache
def _installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, _distribution(point))):
        found.setdefault(point.name, []).append(point)
    return {name: tuple(points) for name, points in found.items()}


@cache
def _loaded(point: EntryPoint) -> Target:
    try:
        target = point.load()
    except Exception as error:
        raise _unusable(point, f"{type(error).__name__}: {error}") from error
    if not isinstance(target, Target):
        raise _unusable(point, f"a {type(target).__name__}")
    if target.api != API:
        raise _unusable(point, f"one for version {target.api} of the interface")
    if target.name != point.name:
        raise _unusable(point, f"one that is called '{target.name}'")
    return target


def _unusable(point: EntryPoint, got: str) -> StageFailed:
    return StageFailed(
        f"the target '{point.name}' of the package '{_distribution(point)}' cannot be used",
        expected=f"an export.targets.target.Target named '{point.name}' for version {API} of the interface at "
        f"'{point.value}'",
        got=got,
        next_step=f"pip install --upgrade {_distribution(point)}, or uninstall it",
    )


def _distribution(point: EntryPoint) -> str:
    return "unknown" if point.dist is None else point.dist.name
