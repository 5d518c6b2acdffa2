"""The folders that a device kit can be made of: those with a Core ML package of one image."""

from pathlib import Path

from efficientvit.errors import BadOption
from export.exported import Exported, open_exported
from runtimes.artifact import Format


def open_for_kit(folder: Path) -> Exported:
    """Read `folder` and hash what lies in it.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadOption: its artifact is no Core ML package, or takes more than one image at a time.
        NothingToShip: its export was rejected or failed.
        ArtifactChanged: something in it is not what the manifest is about.
        BadGoldenSet: the reference is missing or broken.
    """
    exported = open_exported(folder)
    artifact = exported.artifact
    for what, expected, got in (
        ("is no Core ML package", Format.COREML, artifact.format),
        ("takes another number of images", "1 image at a time", "1 image at a time" if artifact.batch == 1 else "more"),
    ):
        if got != expected:
            raise BadOption(
                f"there is no device kit for this folder: its artifact {what}", expected=expected, got=str(got)
            )
    return exported
