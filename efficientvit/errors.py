"""Every error that this project raises on purpose, as one tree.

    VitExportError
    ├── BadInput                 the caller's input cannot be used                 exit 2
    │   ├── UnknownModel
    │   ├── BadOption            an option out of range, or two that exclude each other
    │   ├── BadCheckpoint        weights that are broken, foreign, or of another model
    │   ├── BadImage             a file that is not a usable image
    │   ├── BadGoldenSet         a golden folder or file that cannot be used
    │   └── BadOutput            the output folder cannot be written
    ├── Unavailable              this host cannot do it                            exit 3
    │   ├── MissingExtra         an optional package is not installed
    │   ├── HostShortage         too little memory, disk space, files or processes
    │   └── DownloadFailed       pretrained weights could not be fetched
    ├── Refused                  an artifact that must not ship                    exit 1
    │   ├── ArtifactChanged      a file is not the one that was verified
    │   ├── BrokenArtifact       a file that contradicts itself, or that nothing here can interpret
    │   │   └── UnknownOperation     one of its operations has no meaning here
    │   ├── NothingToShip        a folder of an export that was rejected or failed
    │   └── NotPassed            a folder whose verdict is not passed, which no bundle may hold
    └── StageFailed              a converter or tool failed                        exit 4

The library raises these; only the command line turns them into text and an exit code.
"""

from efficientvit.installation import install_command


class VitExportError(Exception):
    """What failed, what was expected against what was got, and what to do next.

    Args:
        what: one sentence naming the thing that failed.
        expected: what would have been right, where it can be said.
        got: what was found instead.
        next_step: the shortest way on, as an instruction.
    """

    def __init__(
        self, what: str, *, expected: str | None = None, got: str | None = None, next_step: str | None = None
    ) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.next_step = next_step
        super().__init__(what)

    def __reduce__(self) -> tuple[object, ...]:
        # A subclass may take other arguments than this one: another process gets it without calling any.
        return _restored, (type(self), vars(self))

    def __str__(self) -> str:
        lines = [self.what]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.next_step is not None:
            lines.append(f"  next:     {self.next_step}")
        return "\n".join(lines)


def _restored(kind: type[VitExportError], state: dict[str, str | None]) -> VitExportError:
    error = kind.__new__(kind, state["what"])
    vars(error).update(state)
    return error


class BadInput(VitExportError):
    """The caller's input cannot be used."""


class UnknownModel(BadInput):
    """The model name is not one of M0-M5."""


class BadOption(BadInput):
    """An option is out of range, or does not go with another."""


class BadCheckpoint(BadInput):
    """A checkpoint is broken, foreign, or belongs to another model."""


class BadImage(BadInput):
    """A file is not an image that can be decoded safely."""


class BadGoldenSet(BadInput):
    """A golden folder or file cannot be used."""


class BadLabeledSet(BadInput):
    """A folder of labeled images cannot be used: `--eval`."""


class BadOutput(BadInput):
    """The output folder cannot be written."""


class Unavailable(VitExportError):
    """This host cannot do what was asked."""


class MissingExtra(Unavailable):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed",
            next_step=install_command(extra),
        )


class HostShortage(Unavailable):
    """This host lacks memory, disk space, open files or processes: not the fault of an artifact or of this project."""


class DownloadFailed(Unavailable):
    """Pretrained weights could not be fetched or did not match their published digest."""


class Refused(VitExportError):
    """An artifact must not ship."""


class ArtifactChanged(Refused):
    """A file is not the one that was verified."""


class BrokenArtifact(Refused):
    """A file is cut off, contradicts itself, or holds what no evaluator here can interpret."""


class UnknownOperation(BrokenArtifact):
    """An operation of this `kind` has no meaning here, or not with these operands."""

    def __init__(self, kind: str, what: str, *, expected: str | None = None, got: str | None = None) -> None:
        super().__init__(what, expected=expected, got=got)
        self.kind = kind


class NothingToShip(Refused):
    """A folder holds no artifact that could: its export was rejected or failed."""


class NotPassed(Refused):
    """A folder whose verdict is not passed, or whose files are not the manifest's: no bundle may hold it."""


class StageFailed(VitExportError):
    """A converter or tool failed; its own error is the `__cause__`."""
