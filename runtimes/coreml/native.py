"""Core ML itself, through coremltools on macOS. Written to Apple's documentation and not yet run on a Mac."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed, Unavailable
from runtimes.artifact import Artifact
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.host.machine import this_host, version
from runtimes.host.packages import in_one_sentence, missing
from runtimes.interface import INPUT, LABEL, OUTPUT, PROBABILITIES
from runtimes.runtime import Answer, Array, Attestation, Evidence, Images, Mode, Session, Values
from runtimes.session import OpenSession, refused_by

_SHIPPED_UNITS = "ALL"


class CoreMl:
    """Runs .mlpackage folders on this Mac, on every compute unit that it has.

    Core ML has no switch for float32 arithmetic, so Mode.ORACLE is left to the evaluator.
    """

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
        """A session on `artifact`. Core ML takes no thread count and does not report what it used: 0 is attested.

        Raises:
            Unavailable: this is not a Mac.
            MissingExtra: coremltools is not installed.
            StageFailed: Core ML refuses the package.
            BrokenArtifact: the evaluator can't interpret it.
        """
        if (error := _unavailable()) is not None:
            raise error
        if mode is Mode.ORACLE:
            with MilEvaluator().open(artifact, mode, threads) as session:
                yield session
            return
        with closing(_session(artifact)) as session:
            yield session


def _unavailable() -> Unavailable | None:
    if sys.platform != "darwin":
        return Unavailable(
            "Core ML runs on macOS and iOS only",
            next_step="copy the folder to a Mac and run `vit-export verify` there, or run its kit on the device",
        )
    return missing("coremltools", "coreml", "running a Core ML package")


def _session(artifact: Artifact) -> OpenSession:
    import coremltools

    label = artifact.path.name
    with refused_by("Core ML", label, [RuntimeError, OSError]), warnings.catch_warnings():
        # coremltools warns and returns a model that can't predict, where Core ML refused to load it.
        warnings.filterwarnings("error", "You will not be able to run predict", RuntimeWarning)
        try:
            compute_units = coremltools.ComputeUnit[_SHIPPED_UNITS]
            model = coremltools.models.MLModel(str(artifact.path), compute_units=compute_units)
        except RuntimeWarning as refusal:
            raise RuntimeError(str(refusal)) from refusal
    outputs = [output.name for output in artifact.model.outputs]
    _require_ports(model.get_spec().description, label, outputs)

    def predict(images: Images) -> Mapping[str, Any]:
        with refused_by("Core ML", f"{label} on images {images.shape}", [RuntimeError]):
            answer: Mapping[str, Any] = model.predict({INPUT: _fed(images)})
        return answer

    def values(images: Images) -> Values:
        answer = predict(images)
        return {name: answer[name] for name in outputs}

    def classify(images: Images) -> Answer:
        answer = predict(images)
        return str(answer[LABEL]), answer[PROBABILITIES]

    attestation = Attestation(
        runtime="coreml",
        version=version("coremltools"),
        # Core ML does not report its arithmetic; the program's types are a lower bound.
        precision=artifact.precision.activations,
        threads=0,
        isa=this_host().isa,
        settings={"compute_units": _SHIPPED_UNITS, "os": this_host().os},
    )
    tensors: Callable[[Array], Values] = values
    pixels: Callable[[NDArray[np.uint8]], Values] = values
    image_input = artifact.interface.image_input
    return OpenSession(
        attestation,
        artifact.model.image_size.nchw(artifact.batch),
        None if image_input else tensors,
        run_pixels=pixels if image_input else None,
        classify=classify if artifact.interface.labels else None,
    )


def _fed(images: Images) -> Any:
    """A tensor as it is; 8-bit pixels (1, H, W, 3) as the Pillow image that coremltools asks for."""
    if images.dtype != np.uint8:
        return images
    from PIL import Image

    return Image.fromarray(images[0])


def _require_ports(description: Any, label: str, needed: Sequence[str] = (OUTPUT,)) -> None:
    """Inputs and outputs by name, from a spec's ModelDescription.

    Raises:
        StageFailed: the package takes another input, or lacks an output.
    """
    inputs, outputs = [port.name for port in description.input], [port.name for port in description.output]
    if inputs != [INPUT] or not set(needed) <= set(outputs):
        wanted = " and ".join(f"'{name}'" for name in needed)
        raise StageFailed(
            f"{label} is not a package of this project",
            expected=f"the input '{INPUT}' and an output {wanted}",
            got=f"inputs {', '.join(inputs) or 'none'}; outputs {', '.join(outputs) or 'none'}",
        )
