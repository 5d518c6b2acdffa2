"""What a format's reader answers: what a saved file declares, holds and computes, read from the file itself.

A format implements `Reader` in its own folder (`runtimes/<format>/reader.py`) and enters it in `runtimes/registry.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact
from runtimes.interface import Ports
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array, Images, Mode
from runtimes.wrapping import Wrapping

if TYPE_CHECKING:
    from runtimes.evaluator.evaluator import Language
    from runtimes.evaluator.neural_engine import Readiness
    from runtimes.evaluator.program import Program, Unquantized

Constant = tuple[str, NDArray[Any]]
"""Name and value."""

Values = Mapping[str, NDArray[Any]]
"""Tensors by name, for one batch."""

RANGE = "_range"
"""Suffix of a calibrated constant that holds a quantizer's limits, after the name of its tensor."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation. `gives`: its outputs; `reads`: its inputs except constants; `holds`: its constants by name.

    `name`: as model viewers show it. A constant's name is the model's own, without what a converter added.
    """

    name: str
    kind: str
    gives: tuple[str, ...]
    reads: tuple[str, ...]
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layers:
    """An opened artifact: its layers in execution order, its outputs, and a function that runs them."""

    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    run: Callable[[Images], Values]


class Quantizer(Protocol):
    """A quantizer of an activation, in any format."""

    @property
    def tensor(self) -> str:
        """The tensor that it quantizes."""
        ...

    @property
    def symmetric(self) -> bool:
        """Its range is symmetric about zero."""
        ...

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that it can represent."""
        ...


@dataclass(frozen=True, slots=True)
class Quantizers:
    """The activation quantizers of an int8 artifact, and a function that runs it without them.

    `run`: (B, 3, H, W) -> every tensor that is to be quantized, in float32, by name.
    """

    quantizers: Sequence[Quantizer]
    run: Callable[[Array], Values]


@dataclass(frozen=True, slots=True)
class Subgraphs:
    """An int8 artifact split at its quantizers, so that each subgraph can be run on reference inputs.

    Even two correct evaluations of one Q/DQ graph differ end to end: a rounding tie flips an integer, and the next
    layers propagate it. A subgraph that is run on reference inputs can only be wrong by its own fault.

    `reference`: (B, 3, H, W) -> the reference value of every tensor. `run`: images and reference values -> what each
    subgraph computes, by the name of its output. `products`: how many operators multiply; `other_kernels`: those of
    them that run in another kernel than they do in the whole model.
    """

    reference: Callable[[Array], Values]
    run: Callable[[Array, Values], Values]
    other_kernels: tuple[str, ...] = ()
    products: int = 0


class Reader(Protocol):
    """Reads the saved files of one format. Subclass it: what a format lacks has a default.

    Every method raises MissingExtra where the package that reads the format is not installed, and BrokenArtifact where
    the file contradicts itself or holds what is not supported.
    """

    several_outputs: ClassVar[bool] = False
    """A classifier of another tool may have outputs beside its scores."""

    def ports(self, artifact: Artifact) -> Ports:
        """The declared inputs and outputs."""
        ...

    def program_ports(self, artifact: Artifact) -> Ports:
        """The same, of the tensors that the network itself takes and gives: without an image input."""
        return self.ports(artifact)

    def colors(self, artifact: Artifact) -> str | None:
        """Order of the channels of an input that is an 8-bit image, RGB or BGR; None of a tensor."""
        return None

    def at_one_size(self, file: str, image: str, shape: Sequence[int]) -> str:
        """What to do to get a copy of `file`, of another tool, whose input `image` has this shape alone."""
        return f"export it for one image size: '{image}' of {tuple(shape)}"

    def metadata(self, artifact: Artifact) -> Mapping[str, str]:
        """What the file says of itself under this project's keys; empty for a format that has no place for it."""
        return {}

    def program(self, artifact: Artifact) -> "tuple[Program, Language]":
        """The file's graph, and what its operators compute."""
        raise StageFailed(
            f"{artifact.format} artifacts are not supported",
            expected="a format whose graph can be evaluated",
            next_step="implement `program` in the format's reader",
        )

    @property
    def has_program(self) -> bool:
        """It implements `program`: without it nothing can be proven of a file, and samples are all that is checked."""
        return type(self).program is not Reader.program

    def unquantized(self, program: "Program") -> "Unquantized | None":
        """The same program on floats, with its weights decoded; None where integers of this format are not followed."""
        return None

    resampled: ClassVar[frozenset[str]] = frozenset()
    """Pillow's filters that a file of this format can have in it, by Pillow's names for them."""

    def wrap(self, network: Artifact, wrapping: Wrapping, out: Path) -> None:
        """Write the network of `network`, which takes a tensor and gives logits, with `wrapping` around it.

        The same gives the same bytes.
        """
        raise _not_wrapped(network)

    def unwrap(self, artifact: Artifact, out: Path) -> None:
        """Write the network that is in a file with a wrapping.

        Raises:
            BrokenArtifact: there is none where `wrap` has it.
        """
        raise _not_wrapped(artifact)

    def preprocessing(self, artifact: Artifact, out: Path) -> None:
        """Write what comes before the network in such a file, as a model that gives the network's input."""
        raise _not_wrapped(artifact)

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """(name, value) of every constant, in the file's order and dtype, by the model's own names."""
        ...

    def stored_precision(self, artifact: Artifact, weights: Dtype) -> Precision:
        """The precision of a float file that another tool made, most of whose constants are stored as `weights`."""
        return Precision(weights, weights, weights)

    def count_operators(self, artifact: Artifact) -> int | None:
        """Operators of the graph, constants not counted; None for a compiled file, which has no graph."""
        ...

    def unexpected_operators(self, artifact: Artifact) -> Mapping[str, int]:
        """Operators, types and stored forms that an artifact of this precision must not have, and how many of each."""
        return {}

    def readiness(self, artifact: Artifact) -> "Readiness | None":
        """How much of the work is fit for an accelerator, by static rules; None for a format without such."""
        return None

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Its layers one by one. `output`: the name of the scores, of a file that may have other outputs.

        Mode.ORACLE: in float32 arithmetic without quantizers, as the structure gate runs it. Other modes: as the file
        is typed. Showing a tensor prevents fusions over it: this is the file's graph, not the kernels that ship.

        Raises:
            StageFailed: the runtime refuses the file.
        """
        ...

    def quantizers(self, artifact: Artifact) -> Quantizers:
        """The activation quantizers of an int8 artifact."""
        raise _not_quantized(artifact)

    def calibration(self, artifact: Artifact, source: Artifact | None) -> Iterator[Constant]:
        """The constants that calibration determined: scales and zero points, or limits.

        As `source` holds them, where the artifact was made from a quantized one; else as the artifact itself does.
        """
        raise _not_quantized(artifact)

    def subgraphs(self, artifact: Artifact) -> Subgraphs:
        """An int8 artifact, split at its quantizers."""
        raise _not_quantized(artifact)

    def modules(self, artifact: Artifact) -> Mapping[str, str]:
        """Quantized tensor -> the path of the model's module that computes it."""
        raise _not_quantized(artifact)


def _not_wrapped(artifact: Artifact) -> StageFailed:
    return StageFailed(
        f"{artifact.format} artifacts take tensors and give logits",
        expected="a format whose files can hold preprocessing",
        next_step="implement `wrap`, `unwrap` and `preprocessing` in the format's reader",
    )


def _not_quantized(artifact: Artifact) -> StageFailed:
    return StageFailed(
        f"int8 {artifact.format} artifacts are not supported",
        next_step="implement `quantizers`, `calibration`, `subgraphs` and `modules` in the format's reader",
    )


def extremes(run: Callable[[Array], Values], images: Array, batch: int) -> dict[str, tuple[float, float]]:
    """The minimum and maximum of 0 and all values of each floating-point tensor; both infinite where there is a NaN.

    `run`: (B, 3, H, W) -> tensors by name; it is called on `batch` images at a time.
    """
    found: dict[str, tuple[float, float]] = {}
    for start in range(0, len(images), batch):
        part = np.take(images, range(start, start + batch), axis=0, mode="wrap")
        for name, value in run(part).items():
            if value.dtype.kind == "f":
                low, high = float(value.min(initial=0.0)), float(value.max(initial=0.0))
                if np.isnan(low):
                    low, high = -float("inf"), float("inf")
                before = found.get(name, (0.0, 0.0))
                found[name] = min(before[0], low), max(before[1], high)
    return found
