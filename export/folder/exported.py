"""A folder that an export made, read back and proved intact: `verify`, `predict`, `kit` and `attach` start here."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from efficientvit.errors import ArtifactChanged, BadInput, BadOption, NothingToShip
from efficientvit.files import parse_json
from efficientvit.head import Head
from efficientvit.images.labels import class_names
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize
from efficientvit.spec import model_spec
from export.folder.layout import MANIFEST, SCHEMA
from export.folder.manifest import Manifest
from export.folder.schema import manifest_schema
from export.records import field_of
from export.targets.coreml.section import CoreMlSection
from export.targets.registry import TARGETS, section_types
from runtimes.artifact import Artifact, Interface, digest, size_of
from runtimes.interface import intended_ports, labels_digest
from runtimes.registry import known_format, read_ports
from runtimes.wrapping import LOGITS, TENSOR, Answers, Feed, Wrapping
from validation.budgets import Budgets
from validation.reference import file as reference_file
from validation.reference.reference import Reference

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


class BadFolder(BadInput):
    """The folder is not one that an export made."""


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """An artifact that ships and the reference that it is judged against, both as the manifest says they are."""

    folder: Path
    manifest: Manifest
    artifact: Artifact
    reference: Reference
    budgets: Budgets

    @property
    def class_names(self) -> tuple[str, ...]:
        """The checkpoint's own, or those of such a number of classes."""
        return tuple(self.manifest.model.labels) or class_names(self.manifest.model.classes)


def open_exported(folder: Path) -> Exported:
    """Read `folder` and hash what lies in it.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadGoldenSet: the reference is missing or was changed.
        NothingToShip: the export was rejected or failed.
        ArtifactChanged: the artifact, its settings, the golden set or the reference is not the manifest's.
    """
    manifest = read_manifest(folder)
    if manifest.artifact is None:
        raise NothingToShip(
            f"{folder} holds nothing that may ship: its export was {manifest.status}",
            expected="a folder of an export that ended with an artifact",
            next_step=f"export again; `vit-export explain {folder}` says which layer is at fault",
        )
    artifact = _last(folder, manifest, manifest.artifact)
    if manifest.reference is None or manifest.settings is None:
        raise _damaged(folder, "reference and settings", "the files of an artifact that ships", "null")
    files = [(entry.path, entry.sha256) for entry in (manifest.reference, manifest.settings.shipped)]
    artifact.require_unchanged()
    reference = reference_file.load(folder / "evidence")
    if reference.golden.sha256 != manifest.golden.sha256:
        raise _changed(f"the golden set in {folder}", manifest.golden.sha256, reference.golden.sha256)
    if reference.image_input != artifact.interface.image_input:
        images = (artifact.interface.image_input, reference.image_input)
        said, found = (f"one of {'images' if each else 'tensors'}" for each in images)
        raise _changed(f"the reference in {folder}", said, found)
    _require_preprocessing(folder, manifest.preprocessing.value, reference.golden.preprocessing)
    if reference.precision != artifact.precision:
        raise _changed(f"the precision in {folder}/manifest.json", str(reference.precision), str(artifact.precision))
    # The floors and answers decide the verdict, and a verdict covers the settings it was made with.
    for path, sha256 in files:
        if (found := digest(inside(folder, path))) != sha256:
            raise _changed(f"{path} in {folder}", sha256, found)
    return Exported(folder, manifest, artifact, reference, manifest.budgets)


def _require_preprocessing(folder: Path, said: Preprocessing, used: Preprocessing) -> None:
    """An app reproduces what the manifest says; the artifact was judged on what the golden images were made with."""
    given, meant = said.to_json(), used.to_json()
    if other := [name for name in meant if given[name] != meant[name]]:
        raise ArtifactChanged(
            f"{folder}/manifest.json says another preprocessing than the golden images were made with",
            expected=", ".join(f"{name} {meant[name]}" for name in other),
            got=", ".join(f"{name} {given[name]}" for name in other),
            next_step="somebody changed the folder: export the artifact again",
        )


def require_interface(exported: Exported) -> None:
    """An artifact that is run without being judged has to take and give what the manifest says.

    Raises:
        ArtifactChanged: it has other inputs or outputs.
        BrokenArtifact: it cannot be read.
    """
    artifact = exported.artifact
    found, said = read_ports(artifact), intended_ports(artifact.model, artifact.batch, artifact.interface)
    other = [side for side in (0, 1) if found[side] != said[side]]
    if other:
        given, meant = (", ".join(str(port) for side in other for port in ports[side]) for ports in (found, said))
        raise ArtifactChanged(
            f"{artifact.path.name} does not take and give what {exported.folder}/manifest.json says",
            expected=meant,
            got=given,
            next_step="somebody changed the folder: export the artifact again",
        )


def read_manifest(folder: Path) -> Manifest:
    """`folder/manifest.json`, validated by the schema of what this version writes or earlier ones have written.

    Raises:
        BadFolder: it is missing, no JSON, of another schema, or a field of it is damaged or unknown.
    """
    path = folder / MANIFEST
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadFolder(
            f"{folder} is not a folder that an export made",
            expected="a readable manifest.json in it",
            got=str(error),
            next_step="name a folder such as exports/m2-onnx-fp32",
        ) from error
    schema = found.get("schema") if isinstance(found, dict) else type(found).__name__
    if schema != SCHEMA:
        raise BadFolder(f"{path} is of another schema", expected=str(SCHEMA), got=str(schema))
    try:
        manifest = msgspec.convert(found, Manifest)
    except msgspec.ValidationError as error:
        raise _damaged(folder, *field_of(error)) from error
    if (wrong := _first_wrong(found)) is not None:
        place = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in wrong.absolute_path)
        said = f"a manifest by `vit-export schema manifest`; it says that vit-export {manifest.vit_export} wrote it"
        raise _damaged(folder, place.removeprefix(".") or "the whole", said, wrong.message[:200])
    return manifest


def _first_wrong(document: dict[str, Any]) -> "ValidationError | None":
    """Every section that is no field of each manifest is judged as its target declares it, if that can be loaded."""
    from jsonschema.exceptions import best_match

    others = document.keys() - set(Manifest.__struct_fields__)
    types = section_types(name for name in TARGETS if name in others) if others else {}
    known = tuple((name, type_) for name, type_ in types.items() if type_ is not None)
    judged = {name: value for name, value in document.items() if types.get(name, name) is not None}
    found: ValidationError | None = best_match(_validator(known).iter_errors(judged))
    return found


@cache
def _validator(sections: tuple[tuple[str, type], ...]) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(manifest_schema(dict(sections), reading=True))


def _damaged(folder: Path, field: str, expected: str, got: str) -> BadFolder:
    return BadFolder(
        f"{folder}/manifest.json is incomplete or of another kind: {field}",
        expected=expected,
        got=got,
        next_step="export the artifact again",
    )


def inside(folder: Path, relative: str) -> Path:
    """A path that a manifest names.

    Raises:
        BadOption: it leads out of the folder.
    """
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadOption(
            f"the manifest in {folder} names a file outside of it",
            expected="paths inside the folder",
            got=relative,
            next_step="this is no manifest that an export wrote: export again, and do not run what lies there",
        )
    return path


def artifact_of(folder: Path, manifest: Manifest) -> Artifact:
    """The file of the last stage, whether it ships or was rejected, as it lies there.

    Raises:
        BadFolder: no stage made a file.
        ArtifactChanged: it is not the one that the manifest is about.
    """
    made = manifest.stages[-1].artifact
    if made is None or made.path is None:
        raise _damaged(folder, "stages[-1].artifact.path", "the file of the last stage", "null")
    artifact = _last(folder, manifest, made.path)
    artifact.require_unchanged()
    return artifact


def _last(folder: Path, manifest: Manifest, path: str) -> Artifact:
    """What the last stage made."""
    stage, model = manifest.stages[-1], manifest.model
    if stage.artifact is None or manifest.precision is None:
        raise _damaged(folder, "stages[-1].artifact and precision", "those of the artifact", "null")
    file = inside(folder, path)
    return Artifact(
        path=file,
        format=known_format(stage.artifact.format),
        precision=manifest.precision.value,
        model=model_spec(model.name, ImageSize.from_json(model.image_size), model.classes, head_of(folder, manifest)),
        batch=None if model.batch == "dynamic" else model.batch,
        sha256=stage.artifact.sha256,
        size_bytes=size_of(file),
        made_by=stage.name,
        source_sha256=stage.artifact.source_sha256,
        interface=replace(_interface(folder, manifest), wrapping=_wrapping(folder, manifest)),
        settings=tuple(((manifest.tensorrt and manifest.tensorrt.built_with) or {}).items()),
    )


def head_of(folder: Path, manifest: Manifest) -> Head:
    """What the artifact gives.

    Raises:
        BadFolder: the manifest names no head that there is.
    """
    try:
        return Head.parse(manifest.model.head)
    except BadOption as error:
        raise _damaged(folder, "model.head", error.expected or "", error.got or "") from error


def _wrapping(folder: Path, manifest: Manifest) -> Wrapping | None:
    """What the manifest says that is around the network.

    Raises:
        BadFolder: there is no such input or output.
    """
    try:
        feed, answers = Feed.parse(manifest.model.feed), Answers.parse(manifest.model.answers)
    except BadOption as error:
        raise _damaged(folder, "model.feed and model.answers", error.expected or "", error.got or "") from error
    if (feed, answers) == (TENSOR, LOGITS):
        return None
    if manifest.coreml or manifest.coreai or manifest.tensorrt:  # in none of them can anything be wrapped
        alone = f"{TENSOR} and {LOGITS}, as such an artifact has"
        raise _damaged(folder, "model.feed and model.answers", alone, f"{feed} and {answers}")
    return Wrapping(feed, answers, manifest.preprocessing.value)


def _interface(folder: Path, manifest: Manifest) -> Interface:
    """What the manifest says that a file for Apple's systems takes, gives and says of itself."""
    section = manifest.coreml or manifest.coreai
    if section is None:
        return Interface()
    labels: tuple[str, ...] = ()
    if section.labels is not None:
        path, sha256 = section.labels.path, section.labels.sha256
        file = inside(folder, path)
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        if (found := labels_digest(lines)) != sha256:
            raise _changed(f"{path} in {folder}", sha256, found if lines else "nothing")
        labels = tuple(lines)
    image = isinstance(section, CoreMlSection) and section.input == "image"
    metadata = tuple(sorted(section.metadata.items()))
    return Interface(image, labels, metadata, dictionary=manifest.coreml is not None)


def _changed(what: str, expected: str, got: str) -> ArtifactChanged:
    return ArtifactChanged(
        f"{what} is not the one that the manifest is about",
        expected=expected,
        got=got,
        next_step="export the artifact again",
    )
