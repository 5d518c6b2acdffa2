"""`vit-export bench`: what is verified is timed, beside what people would ship otherwise."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ("-w", "seeded", "--image-size", "64", "--rounds", "1", "-o", "out")


def test_a_table_a_record_and_the_artifacts(command: Any, tmp_path: Path) -> None:
    ran = command("bench", "m0", "-t", "onnx", "-p", "fp32", "--stock", *OPTIONS, "--json")
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == record
    ours, stock = record["rows"]
    assert (ours["precision"], stock["precision"]) == ("fp32", "stock")
    assert stock["speedup"] == 1
    assert ours["speedup"] == pytest.approx(stock["median_ms"] / ours["median_ms"], rel=1e-2)
    assert all(row["error"] <= row["budget"] and len(row["samples_ns"]) >= 5 for row in (ours, stock))
    assert record["notes"] == []
    rows = list(csv.DictReader((tmp_path / "out" / "bench.csv").read_text().splitlines()))
    assert [row["median_ms"] for row in rows] == [str(ours["median_ms"]), str(stock["median_ms"])]
    table = (tmp_path / "out" / "bench.md").read_text()
    assert "as timm exports it" in table
    assert "63.2" in table  # what the authors published
    assert (tmp_path / "out" / "artifacts" / "m0-64-onnx-fp32-untrained" / "manifest.json").is_file()


def test_what_is_rejected_is_named_and_not_timed(command: Any, tmp_path: Path) -> None:
    """A budget that nothing meets."""
    options = ["-t", "onnx", "-p", "int8", "--calibrate", "golden", "--quality-budget", "1e-6"]
    ran = command("bench", "m0", *options, *OPTIONS)
    assert ran.code == 1, ran.err
    assert "m0-64-onnx-int8-untrained is rejected, and was not timed" in ran.err
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["rows"] == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-t", "coreml"), "cannot be timed on any host"),
        (("-t", "onnx", "-p", "bf16"), "none of the targets can be made in bf16"),
        (("-p", "int8"), "int8 has to be calibrated"),
        (("--batch", "0"), "--batch"),
    ],
)
def test_what_cannot_be_timed_is_refused(options: tuple[str, ...], says: str, command: Any) -> None:
    ran = command("bench", "m0", *options, *OPTIONS)
    assert ran.code == 2
    assert says in ran.err
