"""The folders that a kit can be made of: those of a Core ML package or Core AI asset of one image, or of an engine."""

from pathlib import Path

from efficientvit.errors import BadOption
from export.device_kit.formats import FORMS, has_kit
from export.folder.exported import Exported, open_exported


def open_for_kit(folder: Path) -> Exported:
    """Read `folder` and hash what lies in it.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadOption: its artifact is none of a format that has a kit, is one of Apple's that takes more than one image at
            a time, or gives no logits.
        NothingToShip: its export was rejected or failed.
        ArtifactChanged: something in it is not what the manifest is about.
        BadGoldenSet: the reference is missing or broken.
    """
    exported = open_exported(folder)
    require_kit(exported)
    return exported


def require_kit(exported: Exported) -> None:
    """The artifact is one that has a kit.

    Raises:
        BadOption: it is not.
    """
    artifact = exported.artifact
    if artifact.format not in FORMS:
        kinds = [form.what for form in FORMS.values()]
        raise BadOption(
            f"there is no device kit for this folder: its artifact is no {' and no '.join(kinds)}",
            expected=" or ".join(FORMS),
            got=artifact.format,
            next_step="`vit-export verify` checks this one on the host it is copied to",
        )
    if not exported.reference.gives_logits:
        raise BadOption(
            "there is no device kit for this folder: kits compare logits",
            expected="an artifact exported with --head logits",
            got=f"one with --head {exported.manifest.model.head}",
            next_step="check it in its runtime there: `vit-export verify` on a copy of the folder",
        )
    if not has_kit(artifact.format, artifact.batch):
        raise BadOption(
            "there is no device kit for this folder: its artifact takes another number of images",
            expected="1 image at a time",
            got="more",
            next_step="export it with --batch 1 for the kit",
        )
