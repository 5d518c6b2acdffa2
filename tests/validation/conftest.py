"""A tiny model with everything that is measured of it, made once."""

from pathlib import Path

import numpy as np
import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.artifact import Artifact, Format
from runtimes.interface import intended_ports
from runtimes.precision import Precision
from runtimes.runtime import Array
from tests.runtimes.fake import Script
from validation import trial
from validation.gates import constants as constants_gate
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
    monkeypatch.setattr(constants_gate, "read_constants", lambda _: iter(constants))
    monkeypatch.setattr(identity, "prove", lambda *_: Proof(Outcome.PROVEN, "the script has no program"))
    monkeypatch.setattr(trial, "read_ports", lambda artifact: intended_ports(artifact.model, artifact.batch))
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
