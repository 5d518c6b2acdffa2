"""Reads Core AI assets, on any host that Apple's library runs on."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from runtimes.artifact import Artifact
from runtimes.coreai.aimodel import load_metadata, load_program
from runtimes.coreai.kinds import KINDS
from runtimes.coreai.stored import SCALED, TABLE
from runtimes.evaluator.neural_engine import Readiness
from runtimes.evaluator.program import Program, unexpected
from runtimes.interface import METADATA_PREFIX, PROBABILITIES, Ports, labels_digest
from runtimes.precision import Dtype, Precision
from runtimes.reader import Constant, Layers, Reader
from runtimes.runtime import Images, Mode

if TYPE_CHECKING:
    from runtimes.evaluator.evaluator import Language

LABELS = f"{METADATA_PREFIX}labels"
"""Where an asset has its labels, a list, in the order of the probabilities."""

CUSTOM = "creatorDefinedMetadata"
FIELDS = ("author", "license", "description")
"""Metadata that every asset has a place for, beside what its creator defines."""

_TABLE = (TABLE,)
_STORED = {Dtype.INT8: (SCALED,), Dtype.PALETTE8: _TABLE, Dtype.PALETTE6: _TABLE, Dtype.PALETTE4: _TABLE}


def labels_of(asset: Path) -> tuple[str, ...]:
    """The labels that the asset's metadata lists; none if it lists none.

    Raises:
        BrokenArtifact: they are no list of texts.
    """
    labels = _custom(asset).get(LABELS, [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BrokenArtifact(f"the labels of {asset.name} cannot be read", expected="a list of texts", got=str(labels))
    return tuple(labels)


def _custom(asset: Path) -> Mapping[str, Any]:
    custom = load_metadata(asset).get(CUSTOM, {})
    if not isinstance(custom, dict):
        raise BrokenArtifact(f"the metadata of {asset.name} cannot be read", expected="an object", got=str(custom))
    return custom


class CoreAiReader(Reader):
    """Reads .aimodel folders."""

    several_outputs = True

    def ports(self, artifact: Artifact) -> Ports:
        """As the main function has them; the probabilities bear the labels that the metadata lists."""
        inputs, outputs = load_program(artifact.path).ports()
        labels = labels_of(artifact.path)
        digest = labels_digest(labels) if labels else ""
        return inputs, tuple(
            replace(port, labels_sha256=digest) if port.name == PROBABILITIES else port for port in outputs
        )

    def program_ports(self, artifact: Artifact) -> Ports:
        """Without the labels."""
        return load_program(artifact.path).ports()

    def metadata(self, artifact: Artifact) -> Mapping[str, str]:
        """The asset's own fields, and those of this project that its creator defined; the labels are the port's."""
        said, custom = load_metadata(artifact.path), _custom(artifact.path)
        return {
            **{
                key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
                for key, value in custom.items()
                if key.startswith(METADATA_PREFIX) and key != LABELS
            },
            **{key: str(said.get(key, "")) for key in FIELDS},
        }

    def program(self, artifact: Artifact) -> "tuple[Program, Language]":
        """The main function, with those that it calls."""
        from runtimes.coreai.operators import CORE_AI

        return load_program(artifact.path), CORE_AI

    def readiness(self, artifact: Artifact) -> Readiness:
        """For the Neural Engine."""
        from runtimes.coreai.neural_engine import readiness

        return readiness(artifact)

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """The tensors, decoded where they are compressed."""
        for name, constant in load_program(artifact.path).constants.items():
            if isinstance(constant.value, np.ndarray):
                yield name, constant.value

    def stored_precision(self, artifact: Artifact, weights: Dtype) -> Precision:
        """Compressed weights count as int8, whatever their form."""
        if load_program(artifact.path).compressed:
            return Precision(Dtype.INT8, Dtype.FP16, Dtype.FP16)
        return super().stored_precision(artifact, weights)

    def count_operators(self, artifact: Artifact) -> int | None:
        """The operations of the program."""
        return len(load_program(artifact.path).operations)

    def unexpected_operators(self, artifact: Artifact) -> Mapping[str, int]:
        """A kind of operation decides on which compute units it can run, and a type on how exactly."""
        program = load_program(artifact.path)
        large = _large_weights(program) if artifact.precision.weights.compressed else ()
        return unexpected(program, KINDS, large, _STORED.get(artifact.precision.weights, ()))

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Run by the evaluator."""
        import torch

        from runtimes.coreai.operators import CORE_AI
        from runtimes.program_layers import program_layers

        program = load_program(artifact.path)
        (image,) = program.inputs

        def feed(images: Images) -> dict[str, Any]:
            return {image: torch.tensor(images)}

        outputs = (output,) if output else tuple(each.name for each in artifact.model.outputs)
        return program_layers(program, CORE_AI, mode, outputs, feed, str)


def _large_weights(program: Program) -> Iterator[str]:
    """The weights that are compressed, by the rule of efficientvit.deploy.compression, as the file tells them."""
    from efficientvit.deploy.compression import LEAST_ELEMENTS

    for operation in program.operations:
        weight = str(operation.inputs.get("weight" if operation.kind == "conv2d" else "x"))
        constant = program.constants.get(weight)
        if operation.kind == "conv2d":
            groups = program.constants.get(str(operation.inputs["groups"]))
            dense = groups is not None and bool(np.all(groups.value == 1))
        else:  # the classifier's, which is transposed before it is multiplied
            dense = operation.kind == "transpose"
        if dense and constant is not None and prod(constant.type.shape) >= LEAST_ELEMENTS:
            yield weight
