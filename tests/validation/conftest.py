"""A tiny model with everything that is measured of it, made once."""

from collections.abc import Iterator

import pytest
import torch

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel

SIZE = 64


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_reference() -> ReferenceModel:
    """Seeded M0 at 64 pixels with the synthetic golden set."""
    return ReferenceModel(seeded(model_spec("m0", SIZE)), synthetic(Preprocessing(image_size=SIZE)))
