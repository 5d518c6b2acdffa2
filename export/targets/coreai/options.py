"""What can be asked of a Core AI asset beyond its precision, checked before anything is made."""

from dataclasses import dataclass
from typing import ClassVar

from efficientvit.errors import BadOption
from export.targets.apple.options import AppleOptions
from export.targets.options import option

IOS = (27,)
"""The versions of iOS, and of macOS, that an asset can be made for: the first with Core AI."""


@dataclass(frozen=True, slots=True)
class CoreAiOptions(AppleOptions):
    """One asset's labels and form. Its flags are Core ML's: one value serves both targets.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """

    called: ClassVar[str] = "Core AI"

    ios: int = option(
        IOS[0],
        "--ios",
        "Oldest version of iOS and macOS that the app supports. [default: 27]",
        choices=tuple(map(str, IOS)),
        parse=int,
    )

    def __post_init__(self) -> None:
        if self.ios not in IOS:
            raise BadOption(
                f"--ios {self.ios} has no Core AI",
                expected=", ".join(map(str, IOS)),
                got=str(self.ios),
                next_step="leave --ios out, or export -t coreml for older systems",
            )
        self.check_values()
