"""The page of a benchmark: what it says, that it stands alone, and how it looks in a real browser."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from export.bench.page import render
from export.bench.plots import relative, series, top1
from tests.browser import looked_at

FORMS = (("onnx", "stock", 10.0), ("onnx", "int8", 4.0), ("openvino", "bf16", 5.0), ("pytorch", "eager", 16.0))


def _row(model: str, target: str, precision: str, batch: int, ms: float, threads: int = 1) -> dict[str, Any]:
    return {
        "model": model, "target": target, "precision": precision, "batch": batch, "threads": threads,
        "median_ms": ms, "iqr_ms": 0.25, "images_per_s": batch / ms * 1e3, "speedup": 10.0 * batch / ms,
        "gops": 150.0, "limit_share": 0.75, "throughput": [],
        "size_mb": 12.5, "load_ms": 31.0, "first_ms": 4.0, "memory_mb": 36.0,
        "error": 2.5e-6, "budget": 1e-5, "noisy": False, "image_size": 224,
    }  # fmt: skip


def _record(**changed: Any) -> dict[str, Any]:
    models = ("m0", "m5", "mobilenetv3_large_100", "efficientnet_b0")
    return {
        "command": ["bench", "--paper", "-w", "seeded"],
        "host": {"os": "Linux", "cpu": "A <CPU> & more", "isa": "avx2", "cores": 2, "python": "3.11.2"},
        "tools": {"torch": "2.0", "onnxruntime": "1.0"},
        "rows": [
            _row(model, target, precision, batch, ms * batch)
            for model in models for batch in (1, 16) for target, precision, ms in FORMS
        ],
        "limits": [{"arithmetic": "fp32", "gops": 200.0, "library": "a <library>", "shape": [784, 384, 768]}],
        "compared": [
            {"first": "m5 stock", "second": "mobilenetv3_large_100 stock", "target": "onnx", "batch": 16, "threads": 1,
             "ratio": 0.54, "paper": 0.885, "holds": False, "noisy": False,
             "verdict": "does not hold here: slower by more"},
            {"first": "m5 int8", "second": "mobilenetv3_large_100 int8", "target": "onnx", "batch": 16, "threads": 1,
             "ratio": 1.22, "paper": None, "holds": None, "noisy": False, "verdict": ""},
        ],
        "unmeasured": ["m5 over efficientnet_b0, pytorch eager: 1.9 in the paper"],
        "untrained": ["m0", "mobilenetv3_large_100"],
        "notes": ["m0-onnx-fp16 is <rejected>, and was not timed"],
        **changed,
    }  # fmt: skip


def _texts(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_it_says_what_the_record_does() -> None:
    page = render(_record())
    texts = _texts(page)
    assert "M5 stock over MobileNetV3-L stock onnx 16 0.885 0.54 does not hold here: slower by more" in texts
    assert "M5 int8 over MobileNetV3-L int8 onnx 16 1.22 no claim of the paper" in texts
    assert "m5 over efficientnet_b0, pytorch eager: 1.9 in the paper" in texts
    # Fastest first: 64 ms for 16 images is 250 images a second.
    assert "M0 16 onnx int8 64.00 0.25 250 2.50 150 75 % 12.5 31 36 2.5e-06 / 1.0e-05 openvino bf16 80.00" in texts
    assert (
        "One core multiplied at most, just before or after: 200 Gop/s in fp32 (a <library>, 784 × 384 × 768)" in texts
    )
    assert "M0 63.2 228.4 340.1" in texts  # what the authors published
    assert "vit-export bench --paper -w seeded" in texts
    assert "onnxruntime 1.0" in texts
    assert page.count("<svg ") == 3


def test_other_sizes_are_not_drawn_beside_the_paper_s_figures() -> None:
    rows = [row | {"image_size": [64, 96]} for row in _record()["rows"] if row["model"] == "m0"]
    texts = _texts(render(_record(rows=rows, compared=[])))
    assert "M0 16 onnx int8 64.00" in texts
    assert "228.4" not in texts
    assert "Accuracy against latency" not in texts


def test_several_streams_have_a_table_of_their_own() -> None:
    assert "Several streams" not in _texts(render(_record()))
    row = {**_row("m0", "onnx", "int8", 16, 64.0), "throughput": [{"streams": 4, "images_per_s": 812.0}]}
    assert "M0 16 onnx int8 4 812" in _texts(render(_record(rows=[row], compared=[])))


def test_random_weights_are_said_to_be_and_what_int8_on_them_says() -> None:
    said = _texts(render(_record()))
    assert "Random weights in M0, MobileNetV3-L" in said
    assert "says nothing about the accuracy that int8 costs a trained model" in said
    assert "Accuracy as published, latency as measured here" in said
    trained = _texts(render(_record(untrained=[])))
    assert "Random weights" not in trained
    without = [row for row in _record()["rows"] if row["precision"] != "int8"]
    assert "that int8 costs" not in _texts(render(_record(rows=without)))


def test_a_model_whose_accuracy_is_not_known_is_left_out_and_named() -> None:
    assert top1("efficientnet_b0") is None
    assert top1("mobilenetv3_large_100") == 75.2
    assert top1("m5") == 77.1
    page = render(_record())
    assert "Left out, for want of a figure in the paper's text: EfficientNet-B0" in _texts(page)
    plot = page[page.index("Published ImageNet top-1") : page.index("Accuracy as published")]
    assert ">MobileNetV3-L<" in plot
    assert ">EfficientNet-B0<" not in plot


def test_it_needs_no_network_and_no_file_beside_it() -> None:
    page = render(_record())
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
    assert "<script" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)
    assert "#0" not in page.split("</style>", 1)[1].replace('href="#', "")  # every color is the page's own


def test_what_comes_from_outside_is_escaped() -> None:
    page = render(_record(command=["bench", "-w", "<script>alert(1)</script>.pth"]))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.pth" in page
    assert "A &lt;CPU&gt; &amp; more" in page
    assert "m0-onnx-fp16 is &lt;rejected&gt;" in page
    assert not re.search(r"<(CPU|rejected|script)", page)


def test_nothing_timed_is_a_page_too() -> None:
    page = render(_record(rows=[], compared=[], unmeasured=[]))
    assert "Nothing passed, so nothing was timed." in page
    assert "&lt;rejected&gt;" in page
    assert "<svg" not in page


def test_a_noisy_host_is_said_to_be() -> None:
    rows = [_row("m0", "onnx", "fp32", 1, 4.0), _row("m0", "onnx", "fp16", 1, 5.0) | {"noisy": True, "iqr_ms": 1.25}]
    noisy, quiet = render(_record(rows=rows)), render(_record(rows=rows[:1]))
    assert "the quartiles of 1 of 2 rows are more than a tenth of the median apart" in _texts(noisy)
    assert "<b>1.25</b>" in noisy
    assert "noisy" not in _texts(quiet)


def test_threads_have_a_column_where_they_differ() -> None:
    rows = [_row("m0", "onnx", "fp32", 1, 4.0), _row("m0", "onnx", "fp32", 1, 2.5, threads=2)]
    several, one = render(_record(rows=rows)), render(_record(rows=rows[:1]))
    assert ">threads</th>" in several
    assert ">threads</th>" not in one
    assert "M0 1 onnx fp32 1 4.00" in _texts(several)
    assert "onnx fp32 2 2.50" in _texts(several)


def test_every_form_has_a_bar_and_stock_is_the_line() -> None:
    rows = _record()["rows"]
    assert series(rows) == [("onnx", "stock"), ("onnx", "int8"), ("openvino", "bf16"), ("pytorch", "eager")]
    plot = relative(rows)
    for name in ("ONNX int8", "OpenVINO bf16", "PyTorch eager", "EfficientNet-B0"):
        assert f">{name}<" in plot
    assert ">ONNX stock<" not in plot
    assert plot == relative(rows)  # the same bytes for the same figures


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(width: int, scheme: str, browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "bench.html"
    file.write_text(render(_record()), encoding="utf-8")
    assert looked_at(file, width, scheme, browser, tmp_path) > 50
