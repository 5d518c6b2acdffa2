"""What other tools make of the same weights and photos, judged like any stranger's file."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from onnx import TensorProto

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.bench import claims, peers
from export.bench.peers import RIVALS, Found, Rival, judged_rivals
from export.bench.plots import series
from export.bench.timm_export import export_stock
from runtimes.artifact import Format
from runtimes.onnx.graph import load_onnx
from runtimes.precision import Dtype
from validation.inputs.synthetic import synthetic
from validation.reference.model import ReferenceModel

HAS_OPENVINO = find_spec("openvino") is not None
HAS_NNCF = find_spec("nncf") is not None
pytestmark = pytest.mark.tiny_m0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """Every rival that can be made here, for batches of two."""
    folder = tmp_path_factory.mktemp("peers")
    model = seeded(model_spec("m0", square(64)))
    golden = synthetic(Preprocessing(image_size=square(64)))
    stock = export_stock(model, folder / "stock.onnx", 2)
    photos = golden.ordinary().images[:5]
    targets = ("onnx", *(["openvino"] if HAS_OPENVINO else []))
    made = judged_rivals(stock, photos, 2, folder / "made", ReferenceModel(model, golden), targets, lambda _: None)
    return {each.name: each for each in made}


def test_each_is_made_by_the_tool_and_judged(found: dict[str, Found]) -> None:
    for name, each in found.items():
        if each.verdict is None:
            continue
        artifact = each.verdict.artifact
        assert artifact.batch == 2
        assert artifact.format == (Format.ONNX if RIVALS[name].target == "onnx" else Format.OPENVINO)
        assert each.verdict.report is not None
        assert "precision" in {gate.gate for gate in each.verdict.report.gates} or artifact.precision.quantized
    assert {name for name, each in found.items() if each.verdict is not None} >= {
        name for name, each in RIVALS.items() if each.target == "onnx"
    }


def test_what_is_quantized_is_what_its_name_says(found: dict[str, Found]) -> None:
    def zeros(name: str) -> list[Any]:
        """Types of the activations' zero points: one for each that is rounded."""
        verdict = found[name].verdict
        assert verdict is not None
        graph = load_onnx(verdict.artifact.path).graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        return [types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]

    assert set(zeros("quantize_static")) == {TensorProto.INT8}
    assert set(zeros("quantize_static-u8s8")) == set(zeros("quantize_static-conv")) == {TensorProto.UINT8}
    assert 0 < len(zeros("quantize_static-conv")) < len(zeros("quantize_static-u8s8"))
    verdict = found["quantize_static"].verdict
    assert verdict is not None
    assert verdict.artifact.precision.weights is Dtype.INT8


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
def test_openvinos_conversion_passes(found: dict[str, Found]) -> None:
    """It has no quantizers, so that its program is the checkpoint's."""
    verdict = found["converted"].verdict
    assert verdict is not None
    assert verdict.report is not None
    assert verdict.report.passed


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
def test_nncf_is_judged_or_the_extra_is_named(found: dict[str, Found]) -> None:
    for name in ("nncf-performance", "nncf-mixed", "nncf-transformer"):
        each = found[name]
        if HAS_NNCF:
            assert each.verdict is not None, each.why
            assert each.verdict.artifact.precision.quantized
        else:
            assert "[peers]" in each.why


def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rival: Rival, photos: Any = None) -> Found:
    monkeypatch.setattr(peers, "RIVALS", {"one": rival})
    reference = SimpleNamespace(trained=SimpleNamespace(spec=model_spec("m0", square(64))))
    stock = tmp_path / "stock.onnx"
    (each,) = judged_rivals(stock, photos, 1, tmp_path / "out", cast(Any, reference), ("onnx",), lambda _: None)
    return each


def test_a_tool_that_fails_is_named_and_keeps_nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: Any) -> None:
        raise KeyError("a tensor")

    each = _run(monkeypatch, tmp_path, Rival("onnx", ".onnx", fails, calibrated=False))
    assert each.verdict is None
    assert "the tool failed: KeyError" in each.why


def test_without_photos_nothing_is_calibrated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    each = _run(monkeypatch, tmp_path, Rival("onnx", ".onnx", lambda *_: pytest.fail("made")))
    assert "--calibrate" in each.why


def test_every_photo_is_fed_and_every_batch_is_whole() -> None:
    photos = np.arange(5, dtype=np.float32)[:, None, None, None]
    batches = [batch.ravel().tolist() for batch in peers._batches(photos, 2)]
    assert batches == [[0, 1], [2, 3], [4, 0]]


def test_a_peers_file_is_never_our_best() -> None:
    """The claims compare what vit-export makes."""
    rows = [
        SimpleNamespace(model="m5", target="onnx", precision=name, timing=SimpleNamespace(median_ms=ms))
        for name, ms in (("int8", 5.0), ("fp32", 9.0), ("quantize_static-u8s8", 1.0))
    ]
    fastest = claims._fastest(cast(Any, rows), "m5", "onnx", "best verified")
    assert fastest is not None
    assert fastest.precision == "int8"
    assert series([{"target": "onnx", "precision": each.precision} for each in rows])[-1][1] == "quantize_static-u8s8"
