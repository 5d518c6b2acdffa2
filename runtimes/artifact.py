"""An artifact, which a stage makes: a file, two files or a package on disk, with its digest."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from efficientvit.digests import digest_of, file_digest
from efficientvit.errors import ArtifactChanged
from efficientvit.spec import ModelSpec
from runtimes.precision import Precision
from runtimes.wrapping import LOGITS, TENSOR, Answers, Feed, Wrapping


class Format(str):
    """A kind of file that this project makes or judges. Open: an installed package may add one to the registry.

    There is one object for each name, so that `is` compares like `==`.
    """

    __slots__ = ()
    _known: ClassVar[dict[str, "Format"]] = {}

    TORCH: ClassVar["Format"]
    """A saved torch.export program."""
    ONNX: ClassVar["Format"]
    OPENVINO: ClassVar["Format"]
    COREML: ClassVar["Format"]
    COREAI: ClassVar["Format"]
    NETWORK: ClassVar["Format"]
    """A typed ONNX file, for what TensorRT's parser makes of it."""
    ENGINE: ClassVar["Format"]
    """A built engine, with the typed ONNX file that it was built from beside it."""

    def __new__(cls, name: str) -> "Format":
        """The one of this name."""
        return cls._known.setdefault(name, super().__new__(cls, name))


Format.TORCH = Format("torch")
Format.ONNX = Format("onnx")
Format.OPENVINO = Format("openvino")
Format.COREML = Format("coreml")
Format.COREAI = Format("coreai")
Format.NETWORK = Format("tensorrt-network")
Format.ENGINE = Format("tensorrt")

COMPANIONS = {".xml": ".bin", ".engine": ".onnx"}
"""Suffix of an artifact's path -> suffix of the file beside it that belongs to it.

Those of the built-in formats stand here, since a digest must not depend on which modules are imported; those of
installed packages are entered with their rows (runtimes/registry.py).
"""


@dataclass(frozen=True, slots=True)
class Interface:
    """What an app feeds and gets. By default a normalized tensor and logits.

    `image_input`: 8-bit RGB in place of the tensor, normalized by the artifact itself. `labels`: the classes' names,
    in order, where the artifact gives the label and the probabilities in addition to the logits. `metadata`: the file's
    own fields, key and value, sorted. `wrapping`: what the file does around a network that takes a tensor.
    `dictionary`: the probabilities come by label, with the most probable one, as Core ML gives them; False: as a
    tensor, in the order of labels that the file lists.
    """

    image_input: bool = False
    labels: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    wrapping: Wrapping | None = None
    dictionary: bool = True

    @property
    def feed(self) -> Feed:
        """What is fed to a wrapped network, as `--input` has it; a tensor to a bare one."""
        return TENSOR if self.wrapping is None else self.wrapping.feed

    @property
    def answers(self) -> Answers:
        """What it then gives, as `--output` has it."""
        return LOGITS if self.wrapping is None else self.wrapping.answers


@dataclass(frozen=True, slots=True)
class Artifact:
    """One saved model and where it came from. `batch` is None when the file takes any batch.

    `settings`: what an engine was built with, name and value. `notes`: what a person should know of how it was made.
    """

    path: Path
    format: Format
    precision: Precision
    model: ModelSpec
    batch: int | None
    sha256: str
    size_bytes: int
    made_by: str
    source_sha256: str | None = None
    tools: tuple[tuple[str, str], ...] = ()
    interface: Interface = Interface()
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def on_disk(
        cls,
        path: Path,
        file_format: Format,
        model: ModelSpec,
        *,
        made_by: str,
        batch: int | None = 1,
        precision: Precision | None = None,
        source: "Artifact | None" = None,
        tools: tuple[tuple[str, str], ...] = (),
        interface: Interface = Interface(),
    ) -> "Artifact":
        """The artifact at `path` as it lies there now, hashed."""
        return cls(
            path=path,
            format=file_format,
            precision=precision or Precision(),
            model=model,
            batch=batch,
            sha256=digest(path),
            size_bytes=size_of(path),
            made_by=made_by,
            source_sha256=source.sha256 if source else None,
            tools=tools,
            interface=interface,
        )

    def becomes(
        self,
        path: Path,
        made_by: str,
        *,
        file_format: Format | None = None,
        precision: Precision | None = None,
        tools: tuple[tuple[str, str], ...] = (),
        interface: Interface = Interface(),
        settings: tuple[tuple[str, str], ...] = (),
        notes: tuple[str, ...] = (),
    ) -> "Artifact":
        """What a stage has made of it at `path`, hashed; of its own format and precision where no other is given."""
        made = Artifact.on_disk(
            path,
            file_format or self.format,
            self.model,
            made_by=made_by,
            batch=self.batch,
            precision=precision or self.precision,
            source=self,
            tools=tools,
            interface=interface,
        )
        return replace(made, settings=settings, notes=notes)

    def files(self) -> tuple[Path, ...]:
        """Every file that the artifact consists of, sorted."""
        return tuple(sorted(_files(self.path)))

    def copied_to(self, folder: Path) -> Path:
        """Copy its files into `folder`, laid out as they are; the path of the copy."""
        for file in self.files():
            copy = folder / file.relative_to(self.path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        return folder / self.path.name

    def require_unchanged(self) -> None:
        """Hash the files again.

        Raises:
            ArtifactChanged: they are not what they were when this artifact was made.
        """
        now = digest(self.path)
        if now != self.sha256:
            raise ArtifactChanged(
                f"{self.path.name} is not the file that stage '{self.made_by}' made",
                expected=f"sha256 {self.sha256}",
                got=f"sha256 {now}",
                next_step="export it again: the old file was verified, not this one",
            )


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
        return
    yield path
    if path.suffix in COMPANIONS:
        yield path.with_suffix(COMPANIONS[path.suffix])


def size_of(path: Path) -> int:
    """Bytes of the file, or of all its files, as far as they are there."""
    return sum(file.stat().st_size for file in _files(path) if file.is_file())


def digest(path: Path) -> str:
    """SHA-256 of a file; of several, the SHA-256 over their names and digests, in order of name.

    Raises:
        ArtifactChanged: there is nothing at `path`.
    """
    files = sorted(_files(path))
    if not files or not all(file.is_file() for file in files):
        missing = next((file for file in files if not file.is_file()), path)
        raise ArtifactChanged(
            f"{missing} is missing", expected="a file", got="nothing", next_step="export the artifact again"
        )
    if files == [path]:
        return file_digest(path)
    root = path if path.is_dir() else path.parent
    # An IR's name is its owner's choice; only the two files' roles are part of the digest.
    names = (file.suffix if root != path else file.relative_to(root).as_posix() for file in files)
    return digest_of(zip(names, map(file_digest, files), strict=True))
