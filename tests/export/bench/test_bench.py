"""`vit-export bench`: what is verified is timed, beside what people would ship otherwise."""

import csv
import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import BadOption, BadOutput
from export.bench import entries, files
from export.bench import run as bench_run
from export.bench.request import BenchRequest
from export.bench.run import Bench
from export.targets.onnx import mixed_precision
from export.targets.onnx.float_choice import Choice
from tests.integer_cpu import needs_exact_int8
from tests.silent import Silent
from validation.timing.latency import Timing

COMPILER = shutil.which("g++")
OPTIONS = ("-w", "seeded", "--image-size", "64", "--rounds", "1", "-o", "out")


def _in_this_process(work: Any, units: Any, progress: Any, count: int) -> list[Any]:
    """Sent as to another process, whose imports take longer than its work. `test_pool.py` starts real ones."""
    assert count == 1
    work, units = pickle.loads(pickle.dumps((work, units)))
    found: list[Any] = pickle.loads(pickle.dumps([each for unit in units for each in work(unit, progress)]))
    return found


@pytest.mark.tiny_m0
def test_a_page_a_table_a_record_and_the_artifacts(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_run, "_PROCESSES", 2)  # more would show nothing else
    monkeypatch.setattr(entries, "default_at_once", lambda: 2)
    monkeypatch.setattr(entries, "in_processes", _in_this_process)
    monkeypatch.setattr(Timing, "noisy", property(lambda _: True))
    if COMPILER:
        quick = tmp_path / "quick-g++"
        quick.write_text(f'#!/bin/sh\nexec "{COMPILER}" "$@" -O0 -g0\n')
        quick.chmod(0o755)
        monkeypatch.setenv("CXX", str(quick))
    ran = command(
        "bench", "m0", "-t", "onnx", "-p", "fp32", "--stock", "--pytorch", "--streams", "2", *OPTIONS, "--json"
    )
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    out = tmp_path / "out"
    assert json.loads((out / "bench.json").read_text()) == record
    forms = [(row["target"], row["precision"]) for row in record["rows"]]
    compiled = [("pytorch", "compiled")] if COMPILER else []
    assert forms == [("onnx", "fp32"), ("onnx", "stock"), ("pytorch", "eager"), *compiled]
    assert COMPILER or "needs a C++ compiler" in record["notes"][0]
    ours, stock, eager, *_ = record["rows"]
    assert stock["speedup"] == 1
    for row in (ours, eager):
        assert row["speedup"] == pytest.approx(stock["median_ms"] / row["median_ms"], rel=1e-3)
    assert all(row["error"] <= row["budget"] and len(row["samples_ns"]) >= 5 for row in record["rows"])
    assert {"fp32", "int8"} <= {each["arithmetic"] for each in record["limits"]}
    (limit,) = (each["gops"] for each in record["limits"] if each["arithmetic"] == "fp32")
    for row in record["rows"]:
        assert row["limit_share"] == pytest.approx(row["gops"] / limit, rel=1e-3)
    assert ours["gops"] * ours["median_ms"] == pytest.approx(stock["gops"] * stock["median_ms"], rel=1e-3)
    assert [[each["streams"] for each in row["throughput"]] for row in record["rows"][:3]] == [[2], [2], []]
    assert all(len(each["samples"]) == 2 for row in record["rows"] for each in row["throughput"])
    assert record["untrained"] == ["m0"]
    assert "random weights in m0" in ran.err
    assert ran.err.count("noisy timing") == len(record["rows"])
    assert {row["image_size"] for row in record["rows"]} == {64}
    rows = list(csv.DictReader((out / "bench.csv").read_text().splitlines()))
    assert [row["median_ms"] for row in rows] == [str(row["median_ms"]) for row in record["rows"]]
    table = (out / "bench.md").read_text()
    assert "as timm exports it" in table
    assert "63.2" in table  # what the authors published
    assert "The weights of m0 are random" in table
    page = (out / "bench.html").read_text()
    assert "The paper's throughput" not in page  # its images are larger
    assert "<b>Random weights</b> in M0." in page
    for row in record["rows"]:
        assert f'<td>{row["precision"]}</td><td class="n">{row["median_ms"]:.2f}</td>' in page
    assert (out / "artifacts" / "m0-64-onnx-fp32-untrained" / "manifest.json").is_file()
    assert sorted(path.name for path in out.iterdir()) == [
        "artifacts",
        *(f"bench.{x}" for x in ("csv", "html", "json", "md")),
    ]


@needs_exact_int8
@pytest.mark.usefixtures("no_blame")
@pytest.mark.tiny_m0
def test_what_is_rejected_is_named_and_not_timed(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that nothing meets: what layers in float32 would do about it, and whose fault it is, is not asked."""
    monkeypatch.setattr(mixed_precision, "sensitivities", lambda *_: [])
    monkeypatch.setattr(Choice, "cheapest", lambda *_: None)
    options = ["-t", "onnx", "-p", "int8", "--calibrate", "golden", "--quality-budget", "1e-6"]
    ran = command("bench", "m0", *options, *OPTIONS)
    assert ran.code == 1, ran.err
    assert "m0-64-onnx-int8-untrained is rejected, and was not timed: quality gate: costs" in ran.err
    assert "is rejected, and was not timed: quality gate" in (tmp_path / "out" / "bench.html").read_text()
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["rows"] == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-t", "coreml"), "cannot be timed on any host"),
        (("-t", "onnx", "-p", "bf16"), "none of the targets can be made in bf16"),
        (("-t", "onnx,openvino", "-p", "bf16"), "target 'onnx' cannot be made in bf16"),
        (("--paper",), "--paper compares with figures for one image size"),
        (("-p", "int8"), "int8 has to be calibrated"),
        (("-p", "fp32", "--calibrate", "golden"), "--calibrate is for int8"),
        (("-p", "fp32", "--quality-budget", "0.1"), "--quality-budget is for compressed weights"),
        (("--batch", "0"), "--batch"),
    ],
)
def test_what_cannot_be_timed_is_refused(options: tuple[str, ...], says: str, command: Any) -> None:
    ran = command("bench", "m0", *options, *OPTIONS)
    assert ran.code == 2
    assert says in ran.err


def test_int8_is_calibrated_where_it_is_made_and_nowhere_else() -> None:
    assert BenchRequest(("m0",)).calibration is None
    assert BenchRequest(("m0",), calibrate="photos").calibration == "photos"
    paper = BenchRequest(("m0",), paper=True)
    assert "int8" in paper.made
    assert paper.calibration == "golden"
    assert BenchRequest(("m0",), paper=True, precisions=("fp32",)).calibration is None
    assert BenchRequest(("m0",), paper=True, precisions=("fp32",)).export("m0", 1).calibrate is None
    with pytest.raises(BadOption, match="--calibrate is for int8"):
        _ = BenchRequest(("m0",), precisions=("fp32", "fp16"), calibrate="golden").made


def test_photos_are_for_other_tools_too(tmp_path: Path) -> None:
    asked = BenchRequest(("m0",), precisions=("fp32",), peers=True, calibrate="golden")
    assert asked.made == ("fp32",)
    assert asked.calibration == "golden"
    assert asked.export("m0", 1).calibrate is None
    assert BenchRequest(("m0",), precisions=("fp32",), peers=True).calibration is None
    with pytest.raises(BadOption, match="--calibrate names no folder"):
        _ = replace(asked, calibrate=str(tmp_path / "none")).made


def test_a_target_that_was_not_named_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(_: BenchRequest, __: None, name: str, ___: Silent) -> Iterator[entries.Judgments]:
        yield entries.Judgments(name)

    monkeypatch.setattr(entries, "judge_files", judged)
    found = entries.entries(BenchRequest(("m0",), precisions=("bf16",)), Silent(), at_once=1)
    assert found.notes == ["onnx was left out in bf16: onnx is made in fp32, fp16, int8 only"]


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full before the last of them is complete."""
    empty = Bench((), command=("bench",))
    record = empty.to_json()
    files.write_bench(tmp_path, empty)
    before = (tmp_path / "bench.html").read_bytes()
    assert b"Nothing passed" in before

    def full(path: Path, data: str, **_: Any) -> None:
        with path.open("w") as stream:
            stream.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(BadOutput, match="cannot write"):
        files.write_bench(tmp_path, empty)
    assert (tmp_path / "bench.html").read_bytes() == before
    assert json.loads((tmp_path / "bench.json").read_text()) == record
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "bench.html", "bench.json", "bench.md"]
