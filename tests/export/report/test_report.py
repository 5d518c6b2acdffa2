"""The report: what it says of real exports, and how it looks in a real browser."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.report import plots
from export.report.report import Evidence, render
from tests.browser import looked_at

ONNX, IR, COREML = "m0-64-onnx-fp32-untrained", "m0-64-openvino-fp32-untrained", "m0-64-coreml-fp16-untrained"


@pytest.mark.parametrize("slug", [ONNX, IR, COREML])
def test_every_export_has_one(slug: str, exported: Any) -> None:
    page = (exported.out / slug / "report.html").read_text(encoding="utf-8")
    assert "<strong>verified</strong>" in page
    assert "Untrained weights" in page
    for heading in ("Error by layer", "Winners and margins", "Some of the golden images", "What was not checked here"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<svg ") == 3  # not timed
    assert ("No device has run it" in page) == (slug == COREML)
    assert page.count("data:image/jpeg;base64,") == 3


def test_it_needs_no_network_and_no_file_beside_it(exported: Any) -> None:
    page = (exported.out / ONNX / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
    assert "<script" not in page
    assert str(Path.home()) not in page


def test_ids_are_unique_and_every_reference_has_one(exported: Any) -> None:
    page = (exported.out / ONNX / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_what_comes_from_outside_is_escaped(exported: Any) -> None:
    manifest = exported.manifest(ONNX)
    manifest["weights"]["source"] = "<script>alert(1)</script>"
    manifest["status"] = "rejected"
    manifest["blame"] = {"stage": "simplify", "note": None, "suspects": [
        {"module": "stem", "constant": "<b>", "layer": None, "cause": "is all zeros"},
    ]}  # fmt: skip
    page = render(manifest, Evidence())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<h2>What is at fault</h2>" in page
    assert "<code>&lt;b&gt;</code>: <b>is all zeros</b>" in page
    assert "It must not ship" in page


def test_a_timed_one_shows_how_long_the_runs_took(exported: Any) -> None:
    manifest = exported.manifest(ONNX)
    samples = (5e6 * np.random.default_rng(0).lognormal(0, 0.1, 500)).astype(int).tolist()
    manifest["timing"] = {
        "measured": True, "median_ms": 5.0, "p90_ms": 5.5, "p99_ms": 6.0, "batch": 1, "noisy": True,
        "samples_ns": samples, "effective": {"runtime": "onnxruntime", "threads": 1},
    }  # fmt: skip
    page = render(manifest, Evidence())
    assert "5.000 ms median" in page
    assert "The host was noisy" in page
    assert page.count("<svg ") == 2
    assert "Where the time goes" not in page, "an earlier version recorded no modules"
    manifest["timing"]["modules"] = [
        {"name": "stem", "ns": 1_000_000, "operators": 4, "share": 0.2},
        {"name": "stage1.block1.mixer", "ns": 4_000_000, "operators": 77, "share": 0.8},
    ]
    page = render(manifest, Evidence())
    assert '<th scope="row"><code>stage1.block1.mixer</code></th><td class="n">77</td><td class="n">4.000</td>' in page
    assert '<span style="width: 25.0%"></span>' in page


def test_plots_are_the_same_for_the_same_figures() -> None:
    plot = plots.chain(["trace", "precision"], [1e-6, 2e-2], [4e-6, 1e-2])
    assert plot == plots.chain(["trace", "precision"], [1e-6, 2e-2], [4e-6, 1e-2])
    assert "var(--bad)" in plot
    assert "currentColor" in plot
    assert "#0" not in plot
    assert ">precision<" in plot  # text, not outlines
    for svg in (
        plots.layers([1e-7, float("inf"), float("nan")], [1e-7] * 3, [True, False, False]),
        plots.margins([0.1, 20.0], [True, False]),
        plots.latency([1.0, 1.1, 1.2]),
    ):
        assert svg.startswith("<svg ")
        assert "aria-hidden" in svg


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("slug", [ONNX, COREML])
def test_in_a_browser(slug: str, width: int, scheme: str, browser: Any, exported: Any, tmp_path: Path) -> None:
    assert looked_at(exported.out / slug / "report.html", width, scheme, browser, tmp_path) > 20
