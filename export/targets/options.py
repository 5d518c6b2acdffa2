"""A target's own options as data: a dataclass whose fields carry their command-line flags."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from export.targets.target import Job, Section
    from runtimes.wrapping import Feed

_FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Flag:
    """One command-line flag. The library takes its value by the field's name.

    `type`: of each value, where it has no `choices`. `nargs`: values at a time. `parse`: the field's value from what
    was typed, of a `repeatable` flag from the tuple of all; a ValueError is a usage error. `for_labeled_images`:
    `--eval` reads it too, so it may be given without the target.
    """

    name: str
    help: str
    metavar: str | None = None
    type: type = str
    choices: tuple[str, ...] = ()
    nargs: int = 1
    repeatable: bool = False
    parse: Callable[[Any], Any] | None = None
    for_labeled_images: bool = False


def option(default: Any, name: str, help: str, **more: Any) -> Any:  # noqa: A002 - as click and argparse have it
    """A field of a `TargetOptions` with its flag; `more` as `Flag` has it."""
    return field(default=default, metadata={_FLAG: Flag(name, help, **more)})


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What can be asked of a target beyond its precision; this class itself for a target without options.

    A subclass checks single values in `__post_init__`, and overrides what its options change. Equal options make the
    same artifact: what they are is part of the cache's key, by their repr and by `files`.
    """

    @classmethod
    def of(cls, job: "Job") -> Self:
        """The job's options, as this target's stages know them."""
        assert isinstance(job.options, cls)
        return job.options

    @classmethod
    def flags(cls) -> Mapping[str, Flag]:
        """Every flag by its field."""
        return {each.name: each.metadata[_FLAG] for each in fields(cls) if _FLAG in each.metadata}

    @classmethod
    def recorded(cls) -> "Section":
        """A section of the manifest with all of them, by field, for a target that has nothing else to record."""
        from export.targets.recorded import options_section

        return options_section(cls)

    def given(self) -> Mapping[str, Flag]:
        """The flags of the fields that are not at their default."""
        defaults = {each.name: each.default for each in fields(self) if each.default is not MISSING}
        return {name: flag for name, flag in self.flags().items() if getattr(self, name) != defaults.get(name)}

    def check(self, job: "Job") -> None:
        """Refuse what the job cannot be.

        Raises:
            BadOption: these options don't go with the job's batch or precision.
        """

    def check_classes(self, classes: int, batch: int | None) -> None:
        """Refuse what the weights cannot be; called when they are there.

        Raises:
            BadOption: these options don't go with that many classes.
        """

    def slug_parts(self, batch: int | None) -> list[str]:
        """What is not the default and changes the artifact, for the folder's name."""
        return []

    def files(self) -> tuple[Path, ...]:
        """Files that the artifact depends on."""
        return ()

    def fed(self, feed: "Feed | None") -> "tuple[Self, Feed]":
        """These options with `--input`, where they have one of their own, and what is left to wrap around the network.

        Raises:
            BadOption: such an artifact takes no such input.
        """
        from runtimes.wrapping import TENSOR

        return self, feed or TENSOR

    @property
    def reproducible(self) -> bool:
        """The same options make the same artifact. False: nothing is kept in the cache."""
        return True

    @property
    def takes_image(self) -> bool:
        """The artifact takes an 8-bit RGB image in place of a tensor."""
        return False

    @property
    def readiness_budget(self) -> float | None:
        """The least share of the work that must be fit for the accelerator; None: it is only reported."""
        return None
