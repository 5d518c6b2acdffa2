"""A tiny model with everything that is measured of it, made once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.artifact import Artifact, Format
from runtimes.interface import Ports, intended_ports
from runtimes.onnx.reader import OnnxReader
from runtimes.precision import Precision
from runtimes.registry import BUILT_IN, Row
from runtimes.runtime import Array
from tests.runtimes.fake import Script
from validation.inputs.synthetic import synthetic
from validation.proof import identity
from validation.proof.outcome import Outcome, Proof
from validation.reference.constants import Constant, deploy_constants
from validation.reference.model import ReferenceModel

SIZE = 64


@pytest.fixture(scope="session")
def model_reference() -> ReferenceModel:
    """Seeded M0 at 64 pixels with the synthetic golden set."""
    return ReferenceModel(seeded(model_spec("m0", square(SIZE))), synthetic(Preprocessing(image_size=square(SIZE))))


@pytest.fixture
def dynamic(tmp_path: Path, model_reference: ReferenceModel, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what is in it is told by the script")
    constants: list[Constant] = list(deploy_constants(model_reference.deploy, Precision().weights))

    class Scripted(OnnxReader):
        """For every gate that reads the file."""

        def ports(self, artifact: Artifact) -> Ports:
            return intended_ports(artifact.model, artifact.batch)

        def constants(self, artifact: Artifact) -> Iterator[Constant]:
            return iter(constants)

        def count_operators(self, artifact: Artifact) -> int | None:
            return len(constants)

    rows = cast(dict[Format, Row], BUILT_IN)
    monkeypatch.setitem(rows, Format.ONNX, replace(rows[Format.ONNX], reader=Scripted()))
    monkeypatch.setattr(identity, "prove", lambda *_: Proof(Outcome.PROVEN, "the script has no program"))
    return Artifact.on_disk(path, Format.ONNX, model_reference.trained.spec, made_by="trace", batch=None)


@pytest.fixture
def healthy(model_reference: ReferenceModel) -> Script:
    """The deploy form in float64, image by image."""
    known = {
        image.tobytes(): row for image, row in zip(model_reference.golden.images, model_reference.logits, strict=True)
    }

    def script(images: Array) -> Array:
        return np.stack([known[image.tobytes()] for image in images]).astype(np.float32)

    return script
