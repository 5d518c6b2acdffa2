"""A reference on disk is the reference that was saved."""

from pathlib import Path

import numpy as np
import pytest

from efficientvit.errors import BadGoldenSet
from runtimes.precision import Dtype, Precision
from validation.reference import file
from validation.reference.model import ReferenceModel


@pytest.mark.parametrize("precision", [Precision(), Precision(weights=Dtype.FP16)])
def test_there_and_back(precision: Precision, model_reference: ReferenceModel, tmp_path: Path) -> None:
    saved = model_reference.at(precision)
    file.save(saved, tmp_path)
    loaded = file.load(tmp_path)
    assert loaded.precision == saved.precision
    assert list(loaded.outputs) == ["logits"]
    one, other = loaded.classifier, saved.classifier
    assert (one.precision, one.floors, one.structure_floors) == (other.precision, other.floors, other.structure_floors)
    assert np.array_equal(one.structure, other.structure)
    assert loaded.constants == saved.constants
    assert loaded.golden.sha256 == saved.golden.sha256
    for name in ("logits", "judged"):
        assert np.array_equal(getattr(loaded, name), getattr(saved, name))


def test_broken_or_mismatched_files_are_refused(model_reference: ReferenceModel, tmp_path: Path) -> None:
    file.save(model_reference.at(Precision()), tmp_path)
    path = tmp_path / file.REFERENCE
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadGoldenSet, match="no reference"):
        file.load(tmp_path)
    golden = model_reference.golden.sha256
    path.write_bytes(content.replace(golden.encode(), b"0" * len(golden)))
    with pytest.raises(BadGoldenSet, match="does not belong"):
        file.load(tmp_path)
    path.unlink()
    with pytest.raises(BadGoldenSet):
        file.load(tmp_path)
