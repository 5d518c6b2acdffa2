"""Throughput with several streams."""

import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from validation.timing import kernels
from validation.timing.streams import Throughput, answered, throughput

SPEC = model_spec("m0", square(64))


def _product(folder: Path) -> tuple[Artifact, np.ndarray]:
    """Some products in a file, and what it takes."""
    left, right = kernels._floats((64, 32, 16))
    path = folder / "product.onnx"
    path.write_bytes(kernels._model(kernels._PRODUCT, left, right))
    return Artifact.on_disk(path, Format.ONNX, SPEC, made_by="a test"), left


def test_streams_work_at_the_same_time() -> None:
    """None of three gets its first answer before all have asked."""
    together = threading.Barrier(3)
    asked: set[int] = set()

    def ask() -> None:
        if (own := threading.get_ident()) not in asked:
            asked.add(own)
            together.wait(60)

    count, seconds = answered([ask] * 3, 0.05)
    assert len(asked) == 3
    assert count >= 3
    assert seconds >= 0.05


def test_a_stream_that_fails_is_told() -> None:
    def fails() -> None:
        raise ValueError("no such input")

    with pytest.raises(ValueError, match="no such input"):
        answered([fails, lambda: None], 0.05)


def test_it_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    artifact, images = _product(tmp_path)
    found = throughput(artifact, images, 2)
    assert found is not None
    assert found > 0


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_runs_as_many_streams_as_asked_for(tmp_path: Path) -> None:
    from runtimes.openvino.package import import_openvino
    from validation.timing.streams import _openvino

    artifact, images = _product(tmp_path)
    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(artifact.path), tmp_path / "product.xml")
    asks = _openvino(tmp_path / "product.xml", {"INFERENCE_NUM_THREADS": 2}, images, 2)
    assert len(asks) == 2
    count, _ = answered(asks, 0.05)
    assert count > 0


def test_the_figure_is_the_median() -> None:
    assert Throughput(4, (10.0, 30.0, 11.0)).images_per_s == 11.0
