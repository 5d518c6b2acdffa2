"""The targets' own options, from values by the names of their flags: `weights_bits=8`, or `"8"` as it is typed.

Targets of one family share a flag, such as `--ios` of Core ML and Core AI: its value is for every target that is asked
for and takes it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from efficientvit.errors import BadOption, StageFailed
from export.request.options import ExportOptions, OwnOptions, RunOptions
from export.targets.options import Flag
from export.targets.registry import BUILT_IN, TARGETS, usable
from export.targets.target import Target, TargetOptions

_OWN = (
    frozenset(OwnOptions.__annotations__)
    | frozenset(RunOptions.__annotations__)
    | {"json", "summary", "help", "cluster", "cluster_wait", "tls_ca", "tls_cert", "tls_key"}
)


def flags() -> Iterator[tuple[Target, Flag]]:
    """One for each flag, and the first target that has it; an installed target with a flag that is taken gets none."""
    known = {f"--{name.replace('_', '-')}" for name in _OWN}
    for target in usable():
        own = target.options.flags().values()
        if target.name in BUILT_IN or not {flag.name for flag in own} & known:
            yield from ((target, flag) for flag in own if flag.name not in known)
            known |= {flag.name for flag in own}


def keyword(flag: Flag) -> str:
    """`weights_bits`, of `--weights-bits`."""
    return flag.name.removeprefix("--").replace("-", "_")


def sharing(flag: Flag) -> list[Target]:
    """The built-in targets with this flag."""
    return [each for each in BUILT_IN.values() if flag.name in {own.name for own in each.options.flags().values()}]


def choices(flag: Flag) -> tuple[str, ...]:
    """What the targets that share a flag take together; empty where anything may be given."""
    own = [each for target in sharing(flag) for each in target.options.flags().values() if each.name == flag.name]
    return tuple(dict.fromkeys(choice for each in own or [flag] for choice in each.choices))


def target_options(given: Mapping[str, Any], asked: Sequence[str]) -> Mapping[str, TargetOptions]:
    """Each target's options, of those of which some were given.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
        StageFailed: a target that is asked for has a flag that the command or another target has already.
    """
    known = {keyword(flag): (target, flag) for target, flag in flags()}
    _require_free(asked, {name: target.name for name, (target, _) in known.items()})
    found: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        first, flag = known[name]
        for target in _takers(flag, value, asked) or (first.name,):
            ((field, own),) = (
                (field, each) for field, each in TARGETS[target].options.flags().items() if each.name == flag.name
            )
            found.setdefault(target, {})[field] = _value(own, value)
    return {target: TARGETS[target].options(**values) for target, values in found.items()}


def unknown(names: Collection[str]) -> list[str]:
    """Those that are no option of an export, whatever is installed."""
    known = frozenset(ExportOptions.__annotations__) | {keyword(flag) for _, flag in flags()}
    return [name for name in names if name not in known]


def _require_free(asked: Sequence[str], owners: Mapping[str, str]) -> None:
    """`owners`: the target that has a keyword."""
    for name in sorted(set(TARGETS) & set(asked) - set(BUILT_IN)):
        own = list(TARGETS[name].options.flags().values())
        if any(owners.get(keyword(flag)) != name for flag in own):
            raise StageFailed(
                f"the target '{name}' cannot be used: a flag of its options is taken",
                expected="flags that neither this command nor another target has",
                got=", ".join(flag.name for flag in own),
                next_step=f"rename the flags in the package that adds '{name}', or uninstall it",
            )


def _takers(flag: Flag, value: Any, asked: Sequence[str]) -> list[str]:
    """The built-in targets that share a flag, were asked for, and have the value among their choices.

    Where none of those asked for has it, all of them: each says what it takes.
    """
    own = {
        each.name: next(f for f in each.options.flags().values() if f.name == flag.name)
        for each in sharing(flag)
        if each.name in asked or "all" in asked
    }
    return [name for name, each in own.items() if not each.choices or str(value) in each.choices] or list(own)


def _value(flag: Flag, value: Any) -> Any:
    """The field's, from what was typed or from what Python has in its place.

    Raises:
        BadOption: a value of another kind.
    """
    several = value if isinstance(value, list | tuple) else (value,)
    typed: tuple[Any, ...] = tuple(map(str, several))
    try:
        if flag.nargs > 1 and len(typed) != flag.nargs:
            raise ValueError(f"{len(typed)} values")
        if flag.type not in (str, bool) and not flag.choices:
            typed = tuple(map(flag.type, typed))
        one = typed if flag.repeatable or flag.nargs > 1 else (value if flag.type is bool else typed[0])
        return one if flag.parse is None else flag.parse(one)
    except ValueError as error:
        raise BadOption(
            f"{flag.name} cannot be used: {error}",
            expected=flag.metavar or " or ".join(flag.choices) or flag.type.__name__,
            got=" ".join(map(str, several)),
            next_step=f"{flag.name}: {flag.help}",
        ) from error
