"""Core ML itself, through coremltools on macOS. Written to Apple's documentation and not yet run on a Mac."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from efficientvit.errors import StageFailed, Unavailable
from runtimes.artifact import Artifact
from runtimes.base import Array, Attestation, Evidence, Mode, Session
from runtimes.extras import in_one_sentence, missing
from runtimes.host import this_host, version
from runtimes.session import OpenSession, Shape, refused_by

_ORACLE_UNITS, _SHIPPED_UNITS = "CPU_ONLY", "ALL"


class CoreMl:
    """Runs .mlpackage folders on this Mac: on its CPU in Mode.ORACLE, else on every unit that it has."""

    name = "coreml"
    evidence = Evidence.NATIVE

    def unavailable(self) -> str | None:
        """None on a Mac with coremltools; else the reason and the remedy."""
        return in_one_sentence(_unavailable())

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """All compute units, as an app's MLModelConfiguration has them by default."""
        return {"compute_units": _SHIPPED_UNITS}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `artifact`. Core ML takes no thread count and won't say what it used: 0 is attested.

        Raises:
            Unavailable: this is no Mac.
            MissingExtra: coremltools is not installed.
            StageFailed: Core ML refuses the package, or its input is an image, which carries no golden input.
        """
        if (error := _unavailable()) is not None:
            raise error
        units = _ORACLE_UNITS if mode is Mode.ORACLE else _SHIPPED_UNITS
        with closing(_session(artifact, units)) as session:
            yield session


def _unavailable() -> Unavailable | None:
    if sys.platform != "darwin":
        return Unavailable(
            "Core ML runs on macOS and iOS only",
            next_step="copy the folder to a Mac and run `vit-export verify` there",
        )
    return missing("coremltools", "coreml", "running a Core ML package")


def _session(artifact: Artifact, units: str) -> OpenSession:
    import coremltools

    label = artifact.path.name
    with refused_by("Core ML", label, [RuntimeError, OSError]), warnings.catch_warnings():
        # coremltools warns and returns a model that can't predict, where Core ML refused to load it.
        warnings.filterwarnings("error", "You will not be able to run predict", RuntimeWarning)
        try:
            compute_units = coremltools.ComputeUnit[units]
            model = coremltools.models.MLModel(str(artifact.path), compute_units=compute_units)
        except RuntimeWarning as refusal:
            raise RuntimeError(str(refusal)) from refusal
    name, shape, output = ports(model.get_spec().description, label)

    def run(images: Array) -> Array:
        with refused_by("Core ML", f"{label} on images {images.shape}", [RuntimeError]):
            logits: Array = np.asarray(model.predict({name: images})[output])
        return logits

    attestation = Attestation(
        runtime="coreml",
        version=version("coremltools"),
        # Core ML won't say what it computes in; the program's types bind it from below.
        precision=artifact.precision.activations,
        threads=0,
        isa=this_host().isa,
        settings={"compute_units": units, "os": this_host().os},
    )
    return OpenSession(attestation, shape, run)


def ports(description: Any, label: str) -> tuple[str, Shape, str]:
    """Name and shape of the tensor input, and name of the tensor output, of a spec's ModelDescription.

    Raises:
        StageFailed: there is not exactly one of each; a classifier's label and probabilities don't count.
    """
    inputs = [port for port in description.input if port.type.WhichOneof("Type") == "multiArrayType"]
    outputs = [port for port in description.output if port.type.WhichOneof("Type") == "multiArrayType"]
    if len(inputs) != 1 or len(outputs) != 1:
        every = (*description.input, *description.output)
        raise StageFailed(
            f"{label} is not a model from one tensor to one tensor",
            expected="one multiArray input and one multiArray output",
            got=", ".join(f"{port.name}: {port.type.WhichOneof('Type')}" for port in every),
            next_step="an image input holds 8 bits a channel: check such a package with the device kit",
        )
    return inputs[0].name, tuple(inputs[0].type.multiArrayType.shape), outputs[0].name
