"""What a stage makes: a file, two files or a package on disk, bound to its digest."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from efficientvit.digests import digest_of, file_digest
from efficientvit.errors import ArtifactChanged
from efficientvit.spec import ModelSpec


class Format(StrEnum):
    """The kinds of file that this project makes or judges."""

    TORCH = "torch"
    """A saved torch.export program."""
    ONNX = "onnx"
    OPENVINO = "openvino"
    COREML = "coreml"
    NETWORK = "tensorrt-network"
    """A typed ONNX file, for what TensorRT's parser makes of it."""
    ENGINE = "tensorrt"
    """A built engine, and beside it the typed ONNX file that it was built from."""


class Dtype(StrEnum):
    """A format of weights, activations or arithmetic.

    The last three are of stored weights alone: indices of 8, 6 or 4 bits into a palette for each tensor. INT8 weights
    have a scale for each output channel, INT8 activations one for the tensor. UINT8 and SYMMETRIC8 are of activations
    alone: a scale and a zero point for the tensor, which ONNX Runtime's kernels take; a scale and no zero point, uint8
    where nothing is negative and int8 elsewhere, which OpenVINO's take. INT7 is of weights beside UINT8: int8, of
    which only -64 to 64 are used, so that two products fit into the 16 bits in which x86 without VNNI adds them.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT7 = "int7"
    UINT8 = "uint8"
    SYMMETRIC8 = "symmetric8"
    PALETTE8 = "palette8"
    PALETTE6 = "palette6"
    PALETTE4 = "palette4"

    @property
    def compressed(self) -> bool:
        """Precision was spent on purpose: the quality gate has a word."""
        return self in (Dtype.INT8, Dtype.INT7, Dtype.PALETTE8, Dtype.PALETTE6, Dtype.PALETTE4)


PALETTE_BITS: Mapping[Dtype, int] = {Dtype.PALETTE8: 8, Dtype.PALETTE6: 6, Dtype.PALETTE4: 4}


@dataclass(frozen=True, slots=True)
class Precision:
    """Weights as stored, activations as the file types them, arithmetic as the shipped settings run it.

    `float_layers`: where activations are quantized, the layers that are left in float32 all the same, by the names of
    their nodes in the ONNX file, sorted.
    """

    weights: Dtype = Dtype.FP32
    activations: Dtype = Dtype.FP32
    execution: Dtype = Dtype.FP32
    float_layers: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Precision":
        """The inverse of `to_json`; without `float_layers` there are none.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, unknown, or of another kind.
        """
        fields = dict(record)
        layers = tuple(str(name) for name in fields.pop("float_layers", ()))
        return cls(**{name: Dtype(value) for name, value in fields.items()}, float_layers=layers)

    def to_json(self) -> dict[str, Any]:
        """As manifests and references carry it."""
        return {
            "weights": self.weights,
            "activations": self.activations,
            "execution": self.execution,
            "float_layers": list(self.float_layers),
        }

    @property
    def float_weights(self) -> frozenset[str]:
        """Names of the weights of `float_layers`; one that multiplies activations has none, and names nothing."""
        return frozenset(f"{name.rpartition('/')[0]}.weight" for name in self.float_layers)

    @property
    def quantized(self) -> bool:
        """Activations are rounded to integers between the layers (Q/DQ), as weights are."""
        return self.activations in (Dtype.INT8, Dtype.UINT8, Dtype.SYMMETRIC8)

    @property
    def quantized_depthwise(self) -> bool:
        """Depthwise convolutions are quantized as the dense ones are: for CPUs, not for TensorRT."""
        return self.activations in (Dtype.UINT8, Dtype.SYMMETRIC8)

    @property
    def rounding(self) -> Dtype:
        """What intermediate results are rounded to: as the file types them, or coarser where the runtime is told so."""
        return Dtype.BF16 if self.execution is Dtype.BF16 else self.activations

    @property
    def decoded(self) -> Dtype:
        """What stored weights are once decoded: compressed ones come as the activations are typed."""
        if self.quantized:
            return Dtype.FP32
        return Dtype.FP16 if self.weights.compressed else self.weights


@dataclass(frozen=True, slots=True)
class Interface:
    """What an app feeds and gets. By default a normalized tensor and logits.

    `image_input`: 8-bit RGB in place of the tensor, normalized by the artifact itself. `labels`: the classes' names,
    in order, where the artifact gives the label and the probabilities beside the logits. `metadata`: what the file
    says of itself, key and value, sorted.
    """

    image_input: bool = False
    labels: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


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
    made_by: str
    source_sha256: str | None = None
    tools: tuple[tuple[str, str], ...] = ()
    size_bytes: int = 0
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
            made_by=made_by,
            source_sha256=source.sha256 if source else None,
            tools=tools,
            size_bytes=sum(file.stat().st_size for file in _files(path)),
            interface=interface,
        )

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
                next_step="export it again: what was verified of the old file says nothing about this one",
            )


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
        return
    yield path
    if path.suffix == ".xml":  # OpenVINO IR: the weights lie beside the graph
        yield path.with_suffix(".bin")
    if path.suffix == ".engine":  # TensorRT: what it was built from, and can be built from again
        yield path.with_suffix(".onnx")


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
